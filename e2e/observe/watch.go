package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Pods watches the pods of a namespace with a label until ctx ends. It returns after the first list; done is closed when the
// watch has ended.
func (t *Timeline) Pods(
	ctx context.Context,
	client kubernetes.Interface,
	namespace, selector string,
) (done <-chan struct{}, err error) {
	options := metav1.ListOptions{LabelSelector: selector}
	list, err := client.CoreV1().Pods(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	now := time.Now()
	for i := range list.Items {
		t.seePod(&list.Items[i], now)
	}
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, listWatch(client, namespace, options))
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer watcher.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event, open := <-watcher.ResultChan():
				if !open {
					return
				}
				pod, ok := event.Object.(*corev1.Pod)
				if !ok {
					continue
				}
				if event.Type == "DELETED" {
					t.Pass(string(pod.UID), Gone, time.Now())
					continue
				}
				t.seePod(pod, time.Now())
			}
		}
	}()
	return ended, nil
}

func listWatch(client kubernetes.Interface, namespace string, options metav1.ListOptions) cache.WatcherWithContext {
	return &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = options.LabelSelector
			return client.CoreV1().Pods(namespace).Watch(ctx, o)
		},
	}
}

func (t *Timeline) seePod(pod *corev1.Pod, now time.Time) {
	uid := string(pod.UID)
	t.note(uid, Admitted, now, func(life *Life) { life.Pod, life.Node = pod.Name, pod.Spec.NodeName })
	for condition, station := range map[corev1.PodConditionType]Station{
		corev1.ContainersReady: ContainersReady, contract.Condition: GateOpen, corev1.PodReady: Ready,
	} {
		for _, c := range pod.Status.Conditions {
			if c.Type == condition && c.Status == corev1.ConditionTrue {
				t.Pass(uid, station, now)
			}
		}
	}
	if pod.DeletionTimestamp != nil {
		t.Pass(uid, Deleted, now)
	}
}

// Catalog watches a service in the catalog until ctx ends, with blocking queries to a Consul server.
func (t *Timeline) Catalog(ctx context.Context, client *api.Client, service string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		known := map[string]bool{}
		for index := uint64(0); ctx.Err() == nil; {
			entries, meta, err := client.Health().Service(service, "", false, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
			if err != nil {
				if errors.Is(err, context.Canceled) {
					return
				}
				index = 0
				pause(ctx, 100*time.Millisecond)
				continue
			}
			index = meta.LastIndex
			known = t.seeCatalog(entries, known, time.Now())
		}
	}()
	return ended
}

func (t *Timeline) seeCatalog(entries []*api.ServiceEntry, known map[string]bool, now time.Time) map[string]bool {
	there := make(map[string]bool, len(entries))
	for _, entry := range entries {
		uid := entry.Service.Meta[contract.MetaPodUID]
		if uid == "" {
			continue
		}
		there[uid] = true
		if entry.Checks.AggregatedStatus() == api.HealthPassing {
			t.Pass(uid, InCatalog, now)
		}
	}
	for uid := range known {
		if !there[uid] {
			t.Pass(uid, OutOfCatalog, now)
		}
	}
	return there
}

// Agent polls a service at one node's Consul agent until ctx ends.
func (t *Timeline) Agent(ctx context.Context, client *api.Client, service string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			services, err := client.Agent().ServicesWithFilterOpts("Service == `"+service+"`", (&api.QueryOptions{}).WithContext(ctx))
			if err == nil {
				for _, s := range services {
					if uid := s.Meta[contract.MetaPodUID]; uid != "" {
						t.Pass(uid, Registered, time.Now())
					}
				}
			}
			pause(ctx, 10*time.Millisecond) // the agent's list of services supports no blocking queries
		}
	}()
	return ended
}

// Collect receives the samples' reports of their hooks' calls and of their SIGTERM until ctx ends. It listens on an address of
// this machine, and returns the address with its port.
func (t *Timeline) Collect(ctx context.Context, host string) (address string, err error) {
	connection, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("listen for reports: %w", err)
	}
	context.AfterFunc(ctx, func() { connection.Close() })
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, _, err := connection.ReadFrom(buffer)
			if err != nil {
				return
			}
			var report struct {
				UID  string
				At   time.Time
				Hook bool
			}
			if json.Unmarshal(buffer[:n], &report) != nil || report.UID == "" {
				continue
			}
			station := Terminated
			if report.Hook {
				station = Hooked
			}
			t.Pass(report.UID, station, report.At)
		}
	}()
	return connection.LocalAddr().String(), nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
