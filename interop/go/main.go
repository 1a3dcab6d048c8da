// Makes the calls that it reads, a line of JSON each, and prints a line for what became of each. With a token and a permission
// it is the backend of docs/from-go.md instead.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"concierge/interop/auth"
)

type call struct {
	Method  string
	Request json.RawMessage
	// In seconds.
	Timeout float64
	Times   int
}

type outcome struct {
	Code   codes.Code      `json:"code"`
	Answer json.RawMessage `json:"answer,omitempty"`
	// How many of the calls ended like the first.
	Times int `json:"times"`
}

type unary func(ctx context.Context, request json.RawMessage) (proto.Message, error)

func main() {
	if len(os.Args) == 3 {
		if err := backend(os.Args[1], os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	channel, err := grpc.NewClient(os.Getenv("AUTH_GRPC_URL"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), WithServiceToken(readKeys(os.Getenv("AUTH_SERVICE_KEYS"))[0]))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	methods := methodsOf(auth.NewAuthServiceClient(channel))
	calls, outcomes := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var next call
		if err := calls.Decode(&next); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := outcomes.Encode(repeat(methods[next.Method], next)); err != nil {
			log.Fatal(err)
		}
	}
}

// readKeys reads keys; the newest of each callee comes first.
func readKeys(file string) []ServiceKey {
	var ring struct{ Keys []ServiceKey }
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &ring)
	}
	if err != nil {
		log.Fatal(err)
	}
	return ring.Keys
}

func methodsOf(client auth.AuthServiceClient) map[string]unary {
	return map[string]unary{
		"VerifyToken":        withJSON(client.VerifyToken),
		"GetUserPermissions": withJSON(client.GetUserPermissions),
		"GetUserLocals":      withJSON(client.GetUserLocals),
		"CheckPermission":    withJSON(client.CheckPermission),
		"GetOrganization":    withJSON(client.GetOrganization),
	}
}

func withJSON[Request, Answer proto.Message](
	method func(context.Context, Request, ...grpc.CallOption) (Answer, error),
) unary {
	return func(ctx context.Context, text json.RawMessage) (proto.Message, error) {
		var none Request
		request := none.ProtoReflect().New().Interface().(Request)
		if err := protojson.Unmarshal(text, request); err != nil {
			return nil, err
		}
		return method(ctx, request)
	}
}

func repeat(method unary, call call) outcome {
	first := outcomeOf(method, call)
	times := 1
	for range call.Times - 1 {
		if reflect.DeepEqual(outcomeOf(method, call), first) {
			times++
		}
	}
	first.Times = times
	return first
}

func outcomeOf(method unary, call call) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(call.Timeout*float64(time.Second)))
	defer cancel()
	answer, err := method(ctx, call.Request)
	if err != nil {
		return outcome{Code: status.Code(err)}
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		log.Fatal(err)
	}
	return outcome{Code: codes.OK, Answer: text}
}
