// Package openshift finds out whether a cluster is one of OpenShift, whose API server assigns each container its user.
package openshift

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// Group is the API group of SecurityContextConstraints.
const Group = "security.openshift.io"

// callTimeout bounds the question.
const callTimeout = 10 * time.Second

// AssignsUsers reports whether the API server has the group, and so an admission that assigns users. Everybody who is
// authenticated may ask, unless the role system:discovery was changed. After an error it is unknown.
func AssignsUsers(ctx context.Context, client rest.Interface) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// One group is a few lines. A client's discovery would read all groups and resources, which are many on OpenShift.
	switch err := client.Get().AbsPath("/apis/" + Group).Do(ctx).Error(); {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("ask the API server for the group %s: %w", Group, err)
	}
}
