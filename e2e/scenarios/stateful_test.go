package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

// statefulSet creates a StatefulSet "db".
func statefulSet(s *scenario.S, replicas int32, policy appsv1.PodManagementPolicyType, template corev1.PodTemplateSpec) {
	s.Helper()
	_, err := s.Kube.AppsV1().StatefulSets(s.Namespace).Create(s.Ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, PodManagementPolicy: policy, Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
		},
	}, metav1.CreateOptions{})
	s.Must(err)
}

// lookUp returns the addresses that Consul's DNS has for a name below the service's; none if the name doesn't exist.
func lookUp(s *scenario.S, name string) []string {
	s.Helper()
	addresses, err := addressesBehind(s.Ctx, name+"."+s.Service()+".service.consul.")
	s.Must(err)
	return addresses
}

// addressesBehind returns the addresses that a Consul server's DNS has for a name; none if the name doesn't exist.
func addressesBehind(ctx context.Context, name string) ([]string, error) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(cluster.HostIP, consulDNS))
	}}
	addresses, err := resolver.LookupHost(ctx, name)
	if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
		return nil, nil
	}
	return addresses, err
}

// tagged returns the UIDs of the pods whose instances have the tag, from a blocking query after index, with the next index.
func tagged(ctx context.Context, s *scenario.S, tag string, index uint64) (uids []string, next uint64, err error) {
	q := (&api.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx)
	entries, meta, err := s.Consul.Health().Service(s.Service(), tag, false, q)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		uids = append(uids, e.Service.Meta[contract.MetaPodUID])
	}
	slices.Sort(uids)
	return uids, meta.LastIndex, nil
}

func TestStatefulServiceOrdinals(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Given("a StatefulSet of three, whose names are tags", func() {
		statefulSet(s, 3, appsv1.OrderedReadyPodManagement, s.Sample(s.Annotations("tags-from-labels", appsv1.StatefulSetPodNameLabel+","+appsv1.PodIndexLabel, "drain-delay", "0s")))
		s.AwaitCatalog(s.Service(), 3)
	})
	ip := func(pod string) string { return s.AwaitReady(pod).Status.PodIP }
	s.Then("each pod resolves by its name and its ordinal, and all of them by the service's name", func() {
		for i, pod := range []string{"db-0", "db-1", "db-2"} {
			for _, name := range []string{pod, fmt.Sprint(i)} {
				if got := lookUp(s, name); !slices.Equal(got, []string{ip(pod)}) {
					s.Errorf("%s leads to %v, want %s alone", name, got, ip(pod))
				}
			}
		}
	})
	var first *corev1.Pod
	s.When("one is deleted, and its successor is there", func() {
		first = s.Pod("db-1")
		s.Delete("db-1")
		s.AwaitGone(first)
		s.Eventually("the successor", func(context.Context) (bool, error) { return len(s.Pods(s.Ctx)) == 3, nil })
		s.AwaitReady("db-1")
	})
	s.Then("the name resolves to the successor, which is also found by its meta", func() {
		if got := lookUp(s, "db-1"); !slices.Equal(got, []string{ip("db-1")}) {
			s.Errorf("db-1 leads to %v, want %s", got, ip("db-1"))
		}
		filter := &api.QueryOptions{Filter: fmt.Sprintf("Service.Meta[%q] == %q", contract.MetaPod, "db-1")}
		entries, _, err := s.Consul.Health().Service(s.Service(), "", true, filter.WithContext(s.Ctx))
		s.Must(err)
		if len(entries) != 1 || entries[0].Service.Address != ip("db-1") {
			s.Errorf("%d entries by meta", len(entries))
		}
	})
	s.Then("a name that is no pod's does not resolve", func() {
		if got := lookUp(s, "db-3"); got != nil {
			s.Errorf("db-3 leads to %v", got)
		}
	})
}

// Number of failovers. Every fifth deletes the primary; in the others it steps down.
const (
	failovers       = 20
	deletedEach     = 5
	tagFollowsLabel = time.Second
)

func TestStatefulServiceRoles(t *testing.T) {
	s := scenario.New(t) // alone, because it measures
	var tags, labels func() []moment
	s.Given("a StatefulSet of three that elects its primary, and labels it", func() {
		grantElections(s)
		template := s.Sample(s.Annotations("tags-from-labels", "role", "drain-delay", "0s"))
		template.Spec.ServiceAccountName = "member"
		scenario.SetEnv(&template, "LEASE", "primary")
		scenario.SetEnv(&template, "POD_NAMESPACE", s.Namespace)
		statefulSet(s, 3, appsv1.ParallelPodManagement, template)
		s.AwaitCatalog(s.Service(), 3)
		tags, labels = followTag(s), followLabel(s)
		s.Eventually("a primary", func(context.Context) (bool, error) { return sole(tags()) != "" && sole(labels()) == sole(tags()), nil })
	})
	var windows []window
	var lags []float64
	client := followPrimary(s)
	s.When(fmt.Sprintf("the primary fails over %d times", failovers), func() {
		for i := range failovers {
			w, lag := failOver(s, i, tags, labels)
			windows, lags = append(windows, w), append(lags, lag.Seconds())
			s.Logf("%2d: %.3f s from the loss to the tag, of which %.0f ms from the label to the tag", i+1, w.to.Sub(w.from).Seconds(), lag.Seconds()*1e3)
		}
	})
	requests := client()
	s.Then("the tag follows the label within a second", func() {
		if most := slices.Max(lags); most > tagFollowsLabel.Seconds() {
			s.Errorf("%.3f s at the most", most)
		}
	})
	s.Then("clients of the tag reach a replica only between the primary's loss and its successor's tag", func() {
		stale, wrong, longest := 0, 0, time.Duration(0)
		for _, w := range windows {
			longest = max(longest, w.to.Sub(w.from))
		}
		for _, r := range requests {
			if r.role != "replica" {
				continue
			}
			stale++
			if !slices.ContainsFunc(windows, func(w window) bool { return !r.done.Before(w.from) && !r.asked.After(w.to) }) {
				wrong++
				s.Errorf("asked at %s, and a replica answered at %s", r.asked, r.done)
			}
		}
		reached := len(slices.DeleteFunc(slices.Clone(requests), func(r request) bool { return r.role != "primary" }))
		s.Logf("%d requests, %d to the primary, %d to a replica, %d of these not in a window; the longest window took %s", len(requests), reached, stale, wrong, longest)
		if reached == 0 {
			s.Error("the client has never reached a primary")
		}
		s.Must(figures.Merge(s.FiguresFile(), map[string]float64{
			"stateful_failovers": failovers, "stateful_requests": float64(len(requests)),
			"stateful_non_primary": float64(stale), "stateful_non_primary_outside": float64(wrong),
			"stateful_label_to_tag_p50_ms": observe.Quantile(lags, 0.5) * 1e3, "stateful_label_to_tag_max_ms": slices.Max(lags) * 1e3,
			"stateful_window_max_ms": float64(longest.Milliseconds()),
		}))
	})
}

// failOver takes the role from the primary, and waits until another pod has it in Consul. It returns the window from the loss
// until then, and the delay of the tag after the label.
func failOver(s *scenario.S, i int, tags, labels func() []moment) (window, time.Duration) {
	before := sole(tags())
	pods := s.Pods(s.Ctx)
	at := slices.IndexFunc(pods, func(p corev1.Pod) bool { return string(p.UID) == before })
	if at < 0 {
		s.Fatalf("no pod is the primary %s", before)
	}
	primary := pods[at]
	began := time.Now()
	if i%deletedEach == deletedEach-1 {
		s.Delete(primary.Name)
	} else {
		s.Must(put(s, &primary, "/stepdown"))
	}
	s.Eventually("another primary", func(context.Context) (bool, error) {
		now := sole(tags())
		return now != "" && now != before, fmt.Errorf("tagged %v, labelled %v", last(tags()), last(labels()))
	})
	now := last(tags())
	has := func(m moment) bool { return m.at.After(began) && slices.Contains(m.uids, now.uids[0]) }
	s.Eventually("its label", func(context.Context) (bool, error) { return slices.ContainsFunc(labels(), has), nil })
	first := func(moments []moment) time.Time { return moments[slices.IndexFunc(moments, has)].at }
	lag := first(tags()).Sub(first(labels()))
	if i%deletedEach == deletedEach-1 {
		s.AwaitGone(&primary)
		s.AwaitCatalog(s.Service(), 3)
	} else {
		s.Pause(1200 * time.Millisecond) // until the pod that stepped down takes part in elections again
	}
	return window{began, now.at}, lag
}

// window is a time in which a replica may still be reached as the primary.
type window struct{ from, to time.Time }

// moment is the set of pods with the role, from a time on.
type moment struct {
	at   time.Time
	uids []string
}

func last(moments []moment) moment {
	if len(moments) == 0 {
		return moment{}
	}
	return moments[len(moments)-1]
}

// sole returns the only pod with the role; "" if there is none, or several.
func sole(moments []moment) string {
	if now := last(moments); len(now.uids) == 1 {
		return now.uids[0]
	}
	return ""
}

// gathered are values that one goroutine appends and others read.
type gathered[T any] struct{ all chan []T }

func gather[T any]() gathered[T] {
	g := gathered[T]{make(chan []T, 1)}
	g.all <- nil
	return g
}

func (g gathered[T]) add(v T) { g.all <- append(<-g.all, v) }

func (g gathered[T]) get() []T {
	all := <-g.all
	g.all <- all
	return slices.Clone(all)
}

// followTag watches which pods have the tag primary in the catalog.
func followTag(s *scenario.S) func() []moment {
	g := gather[moment]()
	go func() {
		var index uint64
		for s.Ctx.Err() == nil {
			uids, next, err := tagged(s.Ctx, s, "primary", index)
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if now := time.Now(); index == 0 || !slices.Equal(uids, last(g.get()).uids) {
				g.add(moment{now, uids})
			}
			index = next
		}
	}()
	return g.get
}

// followLabel watches which pods have the label role=primary.
func followLabel(s *scenario.S) func() []moment {
	g := gather[moment]()
	watch, err := s.Kube.CoreV1().Pods(s.Namespace).Watch(s.Ctx, metav1.ListOptions{LabelSelector: "role=primary"})
	s.Must(err)
	go func() {
		var now []string
		for e := range watch.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			next := slices.DeleteFunc(slices.Clone(now), func(uid string) bool { return uid == string(pod.UID) })
			if e.Type != "DELETED" { // a deletion, or a lost label, removes the pod
				next = append(next, string(pod.UID))
			}
			if !slices.Equal(now, next) {
				now = next
				g.add(moment{time.Now(), now})
			}
		}
	}()
	return g.get
}

// request is a client's request: when it queried Consul, and the role in the answer. An empty role means that it found no
// instance, or got no answer.
type request struct {
	asked, done time.Time
	role        string
}

// followPrimary repeatedly queries Consul for the passing instance with the tag primary, and asks that instance for its role. The
// returned function ends it, and returns the requests.
func followPrimary(s *scenario.S) func() []request {
	g := gather[request]()
	ctx, enough := context.WithCancel(s.Ctx)
	done := make(chan struct{})
	client := &http.Client{Timeout: 500 * time.Millisecond}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			r := request{asked: time.Now()}
			entries, _, err := s.Consul.Health().Service(s.Service(), "primary", true, (&api.QueryOptions{}).WithContext(ctx))
			if err == nil && len(entries) > 0 {
				r.role = roleOf(ctx, client, entries[0].Service.Address)
			}
			r.done = time.Now()
			g.add(r)
			time.Sleep(10 * time.Millisecond) // the pause between a client's requests
		}
	}()
	return func() []request { enough(); <-done; return g.get() }
}

func roleOf(ctx context.Context, client *http.Client, address string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "8080")+"/role", nil)
	if err != nil {
		return ""
	}
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	role, _ := io.ReadAll(io.LimitReader(response.Body, 100))
	return strings.TrimSpace(string(role))
}

// grantElections allows the service account "member" to take part in elections, and to label pods.
func grantElections(s *scenario.S) {
	s.Helper()
	_, err := s.Kube.CoreV1().ServiceAccounts(s.Namespace).Create(s.Ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "member"}}, metav1.CreateOptions{})
	s.Must(err)
	_, err = s.Kube.RbacV1().Roles(s.Namespace).Create(s.Ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "member"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"patch"}},
	}}, metav1.CreateOptions{})
	s.Must(err)
	_, err = s.Kube.RbacV1().RoleBindings(s.Namespace).Create(s.Ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "member"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "member"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "member", Namespace: s.Namespace}},
	}, metav1.CreateOptions{})
	s.Must(err)
}

func TestStatefulServiceBrokenRevision(t *testing.T) {
	breakRevision(t, appsv1.OrderedReadyPodManagement)
}

func TestStatefulServiceBrokenRevisionParallel(t *testing.T) {
	breakRevision(t, appsv1.ParallelPodManagement)
}

// breakRevision updates a StatefulSet to a revision whose pods never become ready, and follows the way out.
func breakRevision(t *testing.T, policy appsv1.PodManagementPolicyType) {
	t.Helper()
	s := scenario.New(t, scenario.Parallel())
	env := func(value string) []byte {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "app", "env": []any{map[string]any{"name": "READY_AFTER", "value": value}}}},
		}}}})
		s.Must(err)
		return patch
	}
	revise := func(value string) {
		_, err := s.Kube.AppsV1().StatefulSets(s.Namespace).Patch(s.Ctx, "db", types.StrategicMergePatchType, env(value), metav1.PatchOptions{})
		s.Must(err)
	}
	var good, broken *corev1.Pod
	s.Given("a StatefulSet of three", func() {
		template := s.Sample(s.Annotations("drain-delay", "0s"))
		scenario.SetEnv(&template, "READY_AFTER", "0s")
		statefulSet(s, 3, policy, template)
		s.Eventually("its controller to count three as ready", func(ctx context.Context) (bool, error) {
			set, err := s.Kube.AppsV1().StatefulSets(s.Namespace).Get(ctx, "db", metav1.GetOptions{})
			return err == nil && set.Status.ReadyReplicas == 3, err
		})
		s.AwaitCatalog(s.Service(), 3)
		good = s.AwaitReady("db-2")
	})
	s.When("a revision is applied whose pods never become ready", func() {
		revise("1h")
		s.AwaitGone(good)
		s.Eventually("its first pod to run", func(ctx context.Context) (bool, error) {
			pods := s.Pods(ctx)
			if len(pods) < 3 || len(pods[2].Status.ContainerStatuses) == 0 {
				return false, nil
			}
			broken = &pods[2]
			return scenario.ContainerStatus(broken, "app").State.Running != nil, nil
		})
	})
	s.Then("the update stops at it, says why, and clients have the other two", func() {
		s.Eventually("the reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "db-2")
			return gate.Reason == string(contract.ContainersNotReady), fmt.Errorf("%+v", gate)
		})
		s.Eventually("two passing instances", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 2, nil })
	})
	s.When("the revision is reverted", func() { revise("0s") })
	if policy == appsv1.OrderedReadyPodManagement {
		s.Then("the broken pod stays nevertheless", func() {
			s.Pause(20 * time.Second)
			if now := s.Pod("db-2"); now.UID != broken.UID || now.DeletionTimestamp != nil {
				s.Errorf("it was replaced: %s is now %s; the documentation says otherwise", broken.UID, now.UID)
			}
		})
		s.When("it is deleted by hand", func() { s.Delete("db-2") })
	}
	s.Then("all three are there again", func() {
		s.AwaitGone(broken)
		s.Eventually("the successor", func(ctx context.Context) (bool, error) { return len(s.Pods(ctx)) == 3, nil })
		s.AwaitReady("db-2")
		s.AwaitCatalog(s.Service(), 3)
	})
}

// tell makes the sample in a pod send a request to its agentlet, and returns the answer.
func tell(s *scenario.S, address, path, body string) (code int, answer string) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Ctx, http.MethodPut, "http://"+address+path, strings.NewReader(body))
	s.Must(err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	s.Must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	s.Must(err)
	return response.StatusCode, string(text)
}

func TestStatefulServiceSpeaksForItself(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	say := func(path, body string) {
		s.Helper()
		began := time.Now()
		if code, answer := tell(s, pod.Status.PodIP+":8080", path, body); code != http.StatusOK {
			s.Fatalf("%s %s: %d %s", path, body, code, answer)
		}
		s.Logf("%s %s: in the catalog after %s", path, body, time.Since(began).Round(time.Millisecond))
	}
	readiness := func() (health, output string) {
		s.Helper()
		for _, e := range s.Catalog(s.Service()) {
			for _, check := range e.Checks {
				if check.CheckID == contract.ReadinessID(check.ServiceID) {
					return check.Status, check.Output
				}
			}
		}
		return "", ""
	}
	s.Given("a pod whose application may use the local API", func() {
		_, err := s.CreatePod("db", s.Sample(s.Annotations("local-api", "enabled", "drain-delay", "0s")))
		s.Must(err)
		pod = s.AwaitReady("db")
	})
	s.When("the application sets maintenance", func() { say(contract.MaintenancePath, `{"enabled": true, "reason": "compaction"}`) })
	s.Then("it is critical with its reason, and Ready as before, with an open gate", func() {
		if health, output := readiness(); health != api.HealthCritical || output != "maintenance: compaction" {
			s.Errorf("%s with %q", health, output)
		}
		s.Pause(3 * time.Second)
		if now := s.Pod("db"); !scenario.IsReady(now) || gateOf(s, "db").Status != corev1.ConditionTrue || scenario.ContainerStatus(now, "app").RestartCount > 0 {
			s.Errorf("the pod is %+v", now.Status)
		}
	})
	s.When("its agentlet is killed, with a tag that the application has set", func() {
		say(contract.TagsPath, `{"tags": ["primary"]}`)
		s.Must(scenario.Kill("agentlet run", string(pod.UID)))
		s.Eventually("the restart", func(context.Context) (bool, error) {
			status := scenario.AgentletStatus(s.Pod("db"))
			return status.RestartCount > 0 && status.State.Running != nil, nil
		})
	})
	s.Then("the tag is removed, and maintenance mode continues", func() {
		s.Eventually("the withdrawal", func(ctx context.Context) (bool, error) {
			uids, _, err := tagged(ctx, s, "primary", 0)
			return len(uids) == 0, err
		})
		awaitBeat(s, "db")
		if health, output := readiness(); health != api.HealthCritical || output != "maintenance: compaction" {
			s.Errorf("%s with %q", health, output)
		}
	})
	s.When("the application ends maintenance mode, as the primary", func() {
		say(contract.MaintenancePath, `{"enabled": false}`)
		say(contract.TagsPath, `{"tags": ["primary"]}`)
	})
	s.Then("the tag resolves to it", func() {
		if got := lookUp(s, "primary"); !slices.Equal(got, []string{pod.Status.PodIP}) {
			s.Errorf("primary leads to %v", got)
		}
		if n := len(s.Passing(s.Service())); n != 1 {
			s.Errorf("%d passing", n)
		}
	})
	s.When("it removes the tag", func() { say(contract.TagsPath, `{"tags": []}`) })
	s.Then("the tag does not resolve", func() {
		if got := lookUp(s, "primary"); got != nil {
			s.Errorf("primary leads to %v", got)
		}
	})
	s.Then("invalid requests get errors, and requests from the network are rejected", func() {
		for name, c := range map[string]struct {
			address, body string
			code          int
			says          string
		}{
			"a wrong field":    {pod.Status.PodIP + ":8080", `{"enable": true}`, 400, "enabled"},
			"from the network": {pod.Status.PodIP + ":19500", `{"enabled": true}`, 403, "loopback"},
		} {
			if code, answer := tell(s, c.address, contract.MaintenancePath, c.body); code != c.code || !strings.Contains(answer, c.says) {
				s.Errorf("%s: %d %s, want %d and %q", name, code, answer, c.code, c.says)
			}
		}
		if n := len(s.Passing(s.Service())); n != 1 {
			s.Errorf("%d passing", n)
		}
	})
	s.Then("the local API rejects pods without the annotation, and admission rejects it for host-network pods", func() {
		_, err := s.CreatePod("silent", s.Sample(s.Annotations("service-names", s.Service()+"-silent", "drain-delay", "0s")))
		s.Must(err)
		if code, answer := tell(s, s.AwaitReady("silent").Status.PodIP+":8080", contract.TagsPath, `{"tags": ["a"]}`); code != 403 || !strings.Contains(answer, contract.LocalAPI) {
			s.Errorf("%d %s", code, answer)
		}
		template := s.Sample(s.Annotations("local-api", "enabled"))
		template.Spec.HostNetwork = true
		if _, err := s.CreatePod("host", template); err == nil || !strings.Contains(err.Error(), contract.LocalAPI) || !strings.Contains(err.Error(), "hostNetwork") {
			s.Errorf("the admission says %v", err)
		}
	})
}
