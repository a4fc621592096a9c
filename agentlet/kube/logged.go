package kube

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet"
)

// logged is a ListerWatcher that says when reading the pod begins to fail, when it fails in another way, and when it
// works again.
func logged(log *slog.Logger, inner *cache.ListWatch) *cache.ListWatch {
	outage := &errorLog{log: log}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := inner.ListWithContext(ctx, options)
			outage.note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			events, err := inner.WatchWithContext(ctx, options)
			if options.SendInitialEvents != nil && apierrors.IsInvalid(err) {
				return nil, err // an API server that streams no lists, as by default before Kubernetes 1.34: the pod is listed next
			}
			outage.note(err)
			return events, err
		},
	}
}

// errorLog remembers what was said of it: listing and watching take turns, and each fails with its own error.
type errorLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	said []string
}

// maxDistinctErrors bounds how many different errors of one outage are logged.
const maxDistinctErrors = 8

func (o *errorLog) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil && len(o.said) > 0:
		o.said = nil
		o.log.Info("reading the own pod works again")
	case err != nil && len(o.said) < maxDistinctErrors && !slices.Contains(o.said, agentlet.RootCause(err).Error()):
		o.said = append(o.said, agentlet.RootCause(err).Error())
		o.log.Warn("reading the own pod fails, so its state is kept as last known", "error", agentlet.RootCause(err))
	}
}
