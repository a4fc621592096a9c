package kube

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

type recorder struct {
	seen int
	gone bool
}

func (r *recorder) OnUpdate(*corev1.Pod) { r.seen++ }
func (r *recorder) OnDelete()            { r.gone = true }

func TestFunnel(t *testing.T) {
	pod := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "own", UID: uid}}
	}
	own, successor := pod("own"), pod("successor")
	none := apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "own")
	cases := map[string]struct {
		do     func(*podStore) error
		direct *corev1.Pod
		err    error
		seen   int
		gone   bool
		fails  bool
	}{
		"listed":                           {func(f *podStore) error { return f.Replace([]any{own}, "") }, nil, none, 1, false, false},
		"changed":                          {func(f *podStore) error { return f.Update(own) }, nil, none, 1, false, false},
		"deleted":                          {func(f *podStore) error { return f.Delete(own) }, nil, nil, 0, true, false},
		"a successor is changed":           {func(f *podStore) error { return f.Update(successor) }, nil, nil, 0, false, false},
		"a successor is deleted":           {func(f *podStore) error { return f.Delete(successor) }, nil, nil, 0, false, false},
		"a list without it, and it's gone": {func(f *podStore) error { return f.Replace(nil, "") }, nil, none, 0, true, false},
		"a list with a successor":          {func(f *podStore) error { return f.Replace([]any{successor}, "") }, successor, nil, 0, true, false},
		"a list that lags":                 {func(f *podStore) error { return f.Replace(nil, "") }, own, nil, 1, false, false},
		"a list without it, and no word":   {func(f *podStore) error { return f.Replace(nil, "") }, nil, errors.New("500"), 0, false, true},
		"something else":                   {func(f *podStore) error { return f.Update("no pod") }, nil, nil, 0, false, false},
	}
	for name, c := range cases {
		sink := &recorder{}
		err := c.do(&podStore{sink: sink, uid: "own", read: func() (*corev1.Pod, error) { return c.direct, c.err }})
		if sink.seen != c.seen || sink.gone != c.gone || (err != nil) != c.fails {
			t.Errorf("%s: seen %d, gone %v, error %v, want %d, %v, an error: %v", name, sink.seen, sink.gone, err, c.seen, c.gone, c.fails)
		}
	}
}
