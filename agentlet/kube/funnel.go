package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// funnel hands a reflector's findings on and stores nothing.
type funnel struct {
	sink Sink
	uid  types.UID
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

// Replace is a new list: without the pod, or with a successor of the same name, ours is gone.
func (f *funnel) Replace(list []any, _ string) error {
	for _, obj := range list {
		if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
			f.see(obj)
			return nil
		}
	}
	f.sink.Gone()
	return nil
}

func (f *funnel) Resync() error { return nil }

func (f *funnel) see(obj any) {
	if pod, ok := obj.(*corev1.Pod); ok && pod.UID == f.uid {
		f.sink.Seen(pod)
	}
}
