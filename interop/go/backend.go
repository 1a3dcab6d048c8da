package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	accessv1 "concierge/interop/contract/concierge/access/v1"
	authv1 "concierge/interop/contract/concierge/auth/v1"
)

// ErrUnauthorized says that nobody may do anything by this token.
var ErrUnauthorized = errors.New("unauthorized")

// Concierge says who sends an access token, what that person may do, and in which branches.
type Concierge struct {
	auth   authv1.AuthInternalServiceClient
	access accessv1.AccessInternalServiceClient
	Close  func()
}

// Dial takes what `concierge keys add-caller` wrote: a key is for one service, and so is a channel.
func Dial(address string, keys []ServiceKey) (*Concierge, error) {
	auth, err := channelTo("auth", address, keys)
	if err != nil {
		return nil, err
	}
	access, err := channelTo("access", address, keys)
	if err != nil {
		auth.Close()
		return nil, err
	}
	return &Concierge{
		authv1.NewAuthInternalServiceClient(auth),
		accessv1.NewAccessInternalServiceClient(access),
		func() { auth.Close(); access.Close() },
	}, nil
}

func channelTo(callee string, address string, keys []ServiceKey) (*grpc.ClientConn, error) {
	for _, key := range keys { // the newest comes first
		if key.Callee == callee {
			return grpc.NewClient(address,
				grpc.WithTransportCredentials(insecure.NewCredentials()), WithServiceToken(key))
		}
	}
	return nil, fmt.Errorf("there is no key for calls of %s", callee)
}

// VerifyToken fails with ErrUnauthorized. Any other error says nothing about the token: answer 503.
func (c *Concierge) VerifyToken(ctx context.Context, token string) (*authv1.VerifyTokenResponse, error) {
	verified, err := c.auth.VerifyToken(ctx, &authv1.VerifyTokenRequest{AccessToken: token})
	if status.Code(err) == codes.Unauthenticated || err == nil && !verified.Active {
		return nil, ErrUnauthorized
	}
	return verified, err
}

// CheckPermission tells what is held in the whole organization, or in one branch of it. Closed: false on any fault, too.
func (c *Concierge) CheckPermission(ctx context.Context, user, organization, permission, branch string) bool {
	answer, err := c.access.CheckPermission(ctx, &accessv1.CheckPermissionRequest{
		UserId: user, OrganizationId: organization, Permission: permission, BranchId: branch,
	})
	return err == nil && answer.Allowed
}

// ListLocals gives the ids of the branches in which a member may act.
func (c *Concierge) ListLocals(ctx context.Context, user, organization string) ([]string, error) {
	answer, err := c.access.GetUserPermissions(ctx,
		&accessv1.GetUserPermissionsRequest{UserId: user, OrganizationId: organization})
	if err != nil {
		return nil, err
	}
	locals := []string{}
	for _, branch := range answer.Rights.Branches {
		locals = append(locals, branch.BranchId)
	}
	return locals, nil
}

func ask(concierge *Concierge, token, permission string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	user, err := concierge.VerifyToken(ctx, token)
	if errors.Is(err, ErrUnauthorized) {
		return map[string]any{"unauthorized": true}, nil
	} else if err != nil {
		return nil, err
	}
	allowed := concierge.CheckPermission(ctx, user.UserId, user.OrganizationId, permission, "")
	locals, err := concierge.ListLocals(ctx, user.UserId, user.OrganizationId)
	return map[string]any{"user": user.UserId, "allowed": allowed, "locals": locals}, err
}

func backend(token, permission string) error {
	concierge, err := Dial(os.Getenv("CONCIERGE_ADDRESS"), readKeys(os.Getenv("CONCIERGE_KEYS_FILE")))
	if err != nil {
		return err
	}
	defer concierge.Close()
	answer, err := ask(concierge, token, permission)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
