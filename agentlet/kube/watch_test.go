package kube

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/internal/logtest"
)

// latest keeps the pod as last seen.
type latest struct {
	mu   sync.Mutex
	seen string
	gone bool
}

func (l *latest) OnUpdate(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = pod.ResourceVersion
}
func (l *latest) OnDelete() { l.mu.Lock(); defer l.mu.Unlock(); l.gone = true }
func (l *latest) is(version string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen == version && !l.gone
}

// TestWatchGoesOn cuts the watch in each way in which an API server does it. Each time the pod has changed meanwhile; the
// change is seen, and none of it is taken for the pod's end.
func TestWatchGoesOn(t *testing.T) {
	for name, cut := range map[string]func(w http.ResponseWriter){
		"its time is over":    func(http.ResponseWriter) {},
		"the connection ends": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"410 Gone in the stream": func(w http.ResponseWriter) {
			send(w, http.StatusOK, event("ERROR", refusal(http.StatusGone, metav1.StatusReasonExpired, "too old resource version")))
		},
		"410 Gone as the answer": func(w http.ResponseWriter) {
			send(w, http.StatusGone, refusal(http.StatusGone, metav1.StatusReasonExpired, "too old resource version"))
		},
		"429 too many requests": func(w http.ResponseWriter) {
			send(w, http.StatusTooManyRequests, refusal(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "slow down"))
		},
		"403, the grant is gone for a moment": func(w http.ResponseWriter) {
			send(w, http.StatusForbidden, refusal(http.StatusForbidden, metav1.StatusReasonForbidden, "may not watch"))
		},
		"500 an error": func(w http.ResponseWriter) {
			send(w, http.StatusInternalServerError, refusal(http.StatusInternalServerError, metav1.StatusReasonInternalError, "no"))
		},
		"garbage in the stream": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>a proxy's page</html>")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var version, watches atomic.Int32
			version.Store(10)
			own := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("watch") == "" {
					pod := versioned(version.Load())
					send(w, http.StatusOK, corev1.PodList{
						TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: pod.ResourceVersion}, Items: []corev1.Pod{*pod},
					})
					return
				}
				nth := watches.Add(1)
				if nth == 2 {
					version.Add(1)
					cut(w)
					return
				}
				pod := versioned(version.Load())
				if r.URL.Query().Get("sendInitialEvents") == "true" {
					send(w, http.StatusOK, event("ADDED", pod))
					bookmark := &corev1.Pod{TypeMeta: pod.TypeMeta}
					bookmark.ResourceVersion, bookmark.Annotations = pod.ResourceVersion, map[string]string{metav1.InitialEventsAnnotationKey: "true"}
					_ = json.NewEncoder(w).Encode(event("BOOKMARK", bookmark))
				} else {
					send(w, http.StatusOK, event("MODIFIED", pod))
				}
				w.(http.Flusher).Flush()
				if nth > 1 {
					<-r.Context().Done()
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			seen, log := &latest{}, &logtest.Log{}
			began := time.Now()
			go func() { defer close(ended); own.Watch(ctx, slog.New(slog.NewTextHandler(log, nil)), seen) }()
			defer func() { cancel(); <-ended }()
			await(t, "the change", func() bool { return seen.is("11") })
			t.Logf("seen %s after the start", time.Since(began).Round(time.Millisecond))
			if n := log.Count("level=WARN"); n > 1 {
				t.Errorf("one cut was told %d times:\n%s", n, log.String())
			}
		})
	}
}

func TestAServerThatStreamsNoListsIsNoOutage(t *testing.T) {
	own := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		pod := versioned(10)
		switch query := r.URL.Query(); {
		case query.Get("watch") == "":
			send(w, http.StatusOK, corev1.PodList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: pod.ResourceVersion}, Items: []corev1.Pod{*pod},
			})
		case query.Has("sendInitialEvents"):
			send(w, http.StatusUnprocessableEntity, refusal(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden"))
		default:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	seen, log := &latest{}, &logtest.Log{}
	go func() { defer close(ended); own.Watch(ctx, slog.New(slog.NewTextHandler(log, nil)), seen) }()
	defer func() { cancel(); <-ended }()
	await(t, "the pod", func() bool { return seen.is("10") })
	if n := log.Count("level=WARN"); n > 0 {
		t.Errorf("it was told %d times:\n%s", n, log.String())
	}
}

func versioned(version int32) *corev1.Pod {
	pod := readyPod()
	pod.ResourceVersion = strconv.Itoa(int(version))
	return pod
}

func event(kind string, object any) map[string]any {
	return map[string]any{"type": kind, "object": object}
}

func TestAnOutageIsToldOnceInEachOfItsWords(t *testing.T) {
	log := &logtest.Log{}
	o := &errorLog{log: slog.New(slog.NewTextHandler(log, nil))}
	for range 2 {
		for i := range 20 {
			o.note([]error{errors.New("may not list"), errors.New("may not watch")}[i%2])
		}
		o.note(nil)
	}
	if warned, over := log.Count("level=WARN"), log.Count("works again"); warned != 4 || over != 2 {
		t.Errorf("two outages, each in two words, were told %d times, and their end %d times", warned, over)
	}
}
