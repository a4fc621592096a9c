package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// podStore hands a reflector's findings on and stores nothing.
type podStore struct {
	sink Sink
	uid  types.UID
	// read gets the pod of the name past all caches.
	read func() (*corev1.Pod, error)
}

var _ cache.ReflectorStore = (*podStore)(nil)

func (f *podStore) Add(obj any) error    { return f.Update(obj) }
func (f *podStore) Update(obj any) error { f.observe(obj); return nil }

func (f *podStore) Delete(obj any) error {
	if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
		f.sink.OnDelete()
	}
	return nil
}

// Replace is a new list. One without the pod may be older than the pod, out of a cache of the API server that lags: only
// a direct reading says that the pod is gone. Its error has the reflector list anew.
func (f *podStore) Replace(list []any, _ string) error {
	for _, obj := range list {
		if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
			f.observe(obj)
			return nil
		}
	}
	pod, err := f.read()
	switch {
	case apierrors.IsNotFound(err), err == nil && pod.UID != f.uid:
		f.sink.OnDelete()
	case err != nil:
		return fmt.Errorf("read pod that a list lacks: %w", err)
	default:
		f.sink.OnUpdate(pod)
	}
	return nil
}

func (f *podStore) Resync() error { return nil }

func (f *podStore) observe(obj any) {
	if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
		f.sink.OnUpdate(pod)
	}
}
