package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// funnel hands a reflector's findings on and stores nothing.
type funnel struct {
	sink Sink
	uid  types.UID
	// read gets the pod of the name past all caches.
	read func() (*corev1.Pod, error)
}

var _ cache.ReflectorStore = (*funnel)(nil)

func (f *funnel) Add(obj any) error    { return f.Update(obj) }
func (f *funnel) Update(obj any) error { f.see(obj); return nil }

func (f *funnel) Delete(obj any) error {
	if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
		f.sink.Gone()
	}
	return nil
}

// Replace is a new list. One without the pod may be older than the pod, out of a cache of the API server that lags: only
// a direct reading says that the pod is gone. Its error has the reflector list anew.
func (f *funnel) Replace(list []any, _ string) error {
	for _, obj := range list {
		if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
			f.see(obj)
			return nil
		}
	}
	pod, err := f.read()
	switch {
	case apierrors.IsNotFound(err), err == nil && pod.UID != f.uid:
		f.sink.Gone()
	case err != nil:
		return fmt.Errorf("read pod that a list lacks: %w", err)
	default:
		f.sink.Seen(pod)
	}
	return nil
}

func (f *funnel) Resync() error { return nil }

func (f *funnel) see(obj any) {
	if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
		f.sink.Seen(pod)
	}
}
