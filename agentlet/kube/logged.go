package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet"
)

// logged is a ListerWatcher that says when reading the pod begins to fail, when it fails in another way, and when it
// works again.
func logged(log *slog.Logger, inner *cache.ListWatch) *cache.ListWatch {
	outage := &outage{log: log}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := inner.ListWithContext(ctx, options)
			outage.note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			events, err := inner.WatchWithContext(ctx, options)
			outage.note(err)
			return events, err
		},
	}
}

// outage remembers what was said last.
type outage struct {
	log  *slog.Logger
	mu   sync.Mutex
	said string
}

func (o *outage) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil && o.said != "":
		o.said = ""
		o.log.Info("reading the own pod works again")
	case err != nil && o.said != agentlet.Bare(err).Error():
		o.said = agentlet.Bare(err).Error()
		o.log.Warn("reading the own pod fails, so its state is kept as last known", "error", agentlet.Bare(err))
	}
}
