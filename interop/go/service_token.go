// How Concierge knows who calls: each call carries a token for its procedure and its message, signed with the caller's key.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// A ServiceKey is an entry of the file that `concierge keys add-caller` writes.
type ServiceKey struct{ Kid, Caller, Callee, Secret string }

var base64url = base64.RawURLEncoding

func sign(key ServiceKey, procedure string, message []byte) (string, error) {
	secret, err := base64url.DecodeString(key.Secret)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(message)
	now := time.Now().Unix()
	header, _ := json.Marshal(map[string]any{"alg": "HS256", "typ": "svc+jwt", "kid": key.Kid})
	claims, _ := json.Marshal(map[string]any{
		"iss": key.Caller, "aud": key.Callee, "proc": procedure,
		"iat": now, "exp": now + 30, "jti": rand.Text(),
		"bd": base64url.EncodeToString(digest[:]),
	})
	signed := base64url.EncodeToString(header) + "." + base64url.EncodeToString(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64url.EncodeToString(mac.Sum(nil)), nil
}

// WithServiceToken signs every unary call of a channel.
func WithServiceToken(key ServiceKey) grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, procedure string, request, answer any,
		channel *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		// grpc-go serializes the message once more to send it. Without maps, it gives the same bytes each time.
		message, err := proto.MarshalOptions{Deterministic: true}.Marshal(request.(proto.Message))
		if err != nil {
			return err
		}
		token, err := sign(key, procedure, message)
		if err != nil {
			return err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "service-token", token)
		return invoke(ctx, procedure, request, answer, channel, options...)
	})
}
