package webhook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
)

// stranger is a body that is expensive to decode: it holds an item any number of times. A # in the item is its number.
type stranger struct{ before, item, after string }

func (s stranger) body(n int) []byte {
	var out bytes.Buffer
	out.WriteString(s.before)
	if strings.Contains(s.item, "#") {
		for i := range n {
			out.WriteString(strings.ReplaceAll(s.item, "#", strconv.FormatInt(int64(i), 16)))
		}
	} else {
		out.WriteString(strings.Repeat(s.item, n))
	}
	out.WriteString(s.after)
	return out.Bytes()
}

// inMetadata, inSpec and inContainer put a stranger in the place of %s into a review of a pod, inTemplate and inWorkload into one
// of a workload.
func inMetadata(before, item, after string) stranger {
	around := strings.Split(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"`+testUID+`",`+
		`"kind":{"version":"v1","kind":"Pod"},"namespace":"shop","operation":"CREATE",`+
		`"object":{"apiVersion":"v1","kind":"Pod","metadata":{%s}}}}`, "%s")
	return stranger{around[0] + before, item, after + around[1]}
}

func inSpec(before, item, after string) stranger {
	return inMetadata(`"annotations":{"agentlet.dev/service-names":"web","agentlet.dev/service-port":"80"}},"spec":{`+before, item, after)
}

func inContainer(before, item, after string) stranger {
	return inSpec(`"containers":[{`+before, item, after+`}]`)
}

func inTerms(before, item, after string) stranger {
	return inSpec(`"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[`+before, item, after+`]}}}`)
}

func inAnnotation(first, key, item string) stranger {
	return inMetadata(`"annotations":{"`+first+`":"web","`+key+`":"`, item, `"}`)
}

func inWorkload(before, item, after string) stranger {
	around := strings.Split(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"`+testUID+`",`+
		`"namespace":"shop","operation":"UPDATE","oldObject":{"spec":{"template":{}}},`+
		`"object":{"apiVersion":"apps/v1","kind":"Deployment",%s}}}`, "%s")
	return stranger{around[0] + before, item, after + around[1]}
}

func inTemplate(before, item, after string) stranger {
	return inWorkload(`"spec":{"template":{"spec":{`+before, item, after+`}}}`)
}

// strangers are the most expensive bodies of each kind that were found, and those that have killed a webhook.
var strangers = map[string]stranger{
	"null containers":         inSpec(`"containers":[null`, `,null`, `]`),
	"empty containers":        inSpec(`"containers":[{}`, `,{}`, `]`),
	"empty init containers":   inSpec(`"initContainers":[{}`, `,{}`, `]`),
	"numbers for containers":  inSpec(`"containers":[1`, `,1`, `]`),
	"lists for containers":    inSpec(`"containers":[[]`, `,[]`, `]`),
	"containers again":        inSpec(`"containers":[{}]`, `,"containers":[{}]`, ``),
	"lifecycles again":        inContainer(`"name":""`, `,"lifecycle":null,"lifecycle":{"preStop":{}}`, ``),
	"probes again":            inContainer(`"name":""`, `,"startupProbe":null,"startupProbe":{}`, ``),
	"resources again":         inContainer(`"name":""`, `,"resources":null,"resources":{"limits":{"cpu":1}}`, ``),
	"ports of a probe again":  inContainer(`"startupProbe":{"httpGet":{"port":1`, `,"port":""`, `}}`),
	"headers":                 inContainer(`"startupProbe":{"httpGet":{"httpHeaders":[{}`, `,{}`, `]}}`),
	"variables":               inContainer(`"env":[{}`, `,{"valueFrom":{}}`, `]`),
	"arguments":               inContainer(`"args":[""`, `,""`, `]`),
	"ports":                   inContainer(`"ports":[{}`, `,{}`, `]`),
	"collisions":              inContainer(`"ports":[{}`, `,{"containerPort":19500}`, `]`),
	"ports beyond all bounds": inContainer(`"ports":[{}`, `,{"containerPort":1e9}`, `]`),
	"volumes":                 inSpec(`"volumes":[{}`, `,{}`, `]`),
	"volumes of ours":         inSpec(`"volumes":[{}`, `,{"name":"agentlet-identity","projected":{}}`, `]`),
	"sources of ours":         inSpec(`"volumes":[{"name":"agentlet-identity","projected":{"sources":[{}`, `,{"secret":{}}`, `]}}]`),
	"items of ours":           inSpec(`"volumes":[{"name":"agentlet-identity","projected":{"sources":[{"downwardAPI":{"items":[{}`, `,{}`, `]}}]}}]`),
	"the proxy's volumes":     inSpec(`"volumes":[{}`, `,{"name":"agentlet-proxy-tmp","emptyDir":{"sizeLimit":1}}`, `]`),
	"gates":                   inSpec(`"readinessGates":[{}`, `,{}`, `]`),
	"pull secrets":            inSpec(`"imagePullSecrets":[{}`, `,{}`, `]`),
	"terms":                   inTerms(`{}`, `,{}`, ``),
	"expressions":             inTerms(`{"matchExpressions":[{}`, `,{}`, `]}`),
	"node labels":             inSpec(`"nodeSelector":{"a":""`, `,"#":""`, `}`),
	"labels":                  inMetadata(`"labels":{"a":""`, `,"#":""`, `}`),
	"unknown labels":          inMetadata(`"labels":{"a":""`, `,"agentlet.dev/service-nam#":""`, `}`),
	"annotations":             inMetadata(`"annotations":{"a":""`, `,"#":""`, `}`),
	"unknown annotations":     inMetadata(`"annotations":{"a":""`, `,"agentlet.dev/service-nam#":""`, `}`),
	"escaped annotations":     inMetadata(`"annotations":{"a":""`, `,"\u0061#":""`, `}`),
	"stray annotations":       inMetadata(`"annotations":{"agentlet.dev/service-names":"web"`, `,"agentlet.dev/service-tags.#":""`, `}`),
	"foreign meta":            inMetadata(`"annotations":{"consul.hashicorp.com/service-name":"web"`, `,"consul.hashicorp.com/service-meta-#":""`, `}`),
	"foreign tags":            inAnnotation("consul.hashicorp.com/service-name", "consul.hashicorp.com/service-tags", "k8s,"),
	"foreign names":           inAnnotation("katalog-sync.wish.com/service-names", "katalog-sync.wish.com/service-tags", "a,"),
	"names":                   inAnnotation("a", "agentlet.dev/service-names", "a,"),
	"tags":                    inAnnotation("agentlet.dev/service-names", "agentlet.dev/service-tags", ","),
	"lists in lists, in YAML": inAnnotation("a", "agentlet.dev/services", "["),
	"keys in keys, in YAML":   inAnnotation("a", "agentlet.dev/services", "{a: "),
	"keys in YAML":            inMetadata(`"annotations":{"agentlet.dev/services":"{`, `a,`, `"}`),
	"services in YAML":        inAnnotation("a", "agentlet.dev/services", `- {}\n`),
	"anchors in YAML":         inAnnotation("a", "agentlet.dev/services", `- a: &a *a\n`),
	"a long text":             inMetadata(`"name":"`, `x`, `"`),
	"a long escaped text":     inMetadata(`"name":"`, `\u00e9`, `"`),
	"no UTF-8":                inMetadata(`"name":"`, "\xff", `"`),
	"a long number":           inSpec(`"terminationGracePeriodSeconds":1`, `1`, ``),
	"a long quantity":         inContainer(`"resources":{"limits":{"cpu":1`, `1`, `}}`),
	"a far exponent":          inContainer(`"resources":{"limits":{"cpu":"1e-999999999"},"requests":{"cpu":1e999999999}}`, ``, ``),
	"far exponents elsewhere": inSpec(`"overhead":{"cpu":"1e-999999999"},"resources":{"limits":{"x":"1e-999999999"}},`+
		`"volumes":[{"name":"a","emptyDir":{"sizeLimit":"1e-999999999"}}`, ``, `],`+
		`"containers":[{"env":[{"name":"a","valueFrom":{"resourceFieldRef":{"divisor":"1e-999999999"}}}]}]`),
	"far exponents of ours": inSpec(`"volumes":[{"name":"agentlet-proxy-tmp","emptyDir":{"sizeLimit":"1e-999999999"}},`+
		`{"name":"agentlet-identity","projected":{"sources":[{"downwardAPI":{"items":[{"resourceFieldRef":{"divisor":"1e-999999999"}}]}}]}}`, ``, `]`),
	"fields of managers":        inMetadata(`"managedFields":[{"fieldsV1":{"f:a":{}`, `,"f:#":{}`, `}}]`),
	"a long uid":                {`{"request":{"uid":"`, `x`, `"}}`},
	"a long kind":               {`{"kind":"`, `\n`, `","request":{}}`},
	"cut off":                   {`{"request":{"object":{"spec":{"containers":[`, `null,`, ``},
	"lists in lists":            {strings.Repeat("[", maxDepth), `[[]],`, ``},
	"spaces":                    {`{}`, ` `, ``},
	"templates":                 inTemplate(`"containers":[{}`, `,{}`, `]`),
	"templates again":           inWorkload(`"spec":{"template":{}`, `,"template":{}`, `}`),
	"a large template":          inTemplate(`"x":"`, `x`, `"`),
	"a template's far exponent": inTemplate(`"containers":[{"resources":{"limits":{"memory":"1e-999999999"}}}]`, ``, ``),
	"owners":                    inWorkload(`"metadata":{"ownerReferences":[{}`, `,{}`, `]}`),
}

// everything is an injector with all features configured.
func everything(t testing.TB) *injector.Injector {
	t.Helper()
	i, err := injector.New(injector.Config{
		Image: "agentlet/agentlet:test", ConsulPort: 8500, ConsulScheme: "http", ClusterName: "test", Dialects: dialect.All(),
		Connect: injector.Connect{Image: "envoy:test", GRPCPort: 8502},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// allocated is how much a handler allocates to answer a body, except for reading it.
func allocated(handler http.Handler, body []byte) int64 {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, MutatePath, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	w := &discarding{header: http.Header{}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	handler.ServeHTTP(w, request)
	runtime.ReadMemStats(&after)
	reading := 2*min(len(body), smallBody) + max(len(body)-smallBody, 0) // the beginning's buffer grows once
	return int64(after.TotalAlloc-before.TotalAlloc) - int64(reading)
}

// discarding is a response writer that discards the body.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (d *discarding) WriteHeader(int)             {}

// checkCost fails if a body costs more than its estimate, or more than a little where it is not decoded.
func checkCost(t *testing.T, body []byte, handlers ...http.Handler) {
	t.Helper()
	cost, err := costOf(body)
	if err != nil || cost > roomForLargeReviews {
		cost = costBase
	}
	for _, handler := range handlers {
		if took := allocated(handler, body); took > cost {
			t.Errorf("%d bytes take %d KiB of memory, and %d were expected at the most", len(body), took>>10, cost>>10)
		}
	}
}

func TestNoBodyCostsMoreThanItsEstimate(t *testing.T) {
	pods, workloads := testMutator(everything(t)), testWorkloads(everything(t), nil)
	checkCost(t, envelope(t, ordinaryPod(t), nil), pods, workloads) // which also fills caches
	for name, s := range strangers {
		t.Run(name, func(t *testing.T) {
			handler := pods
			if strings.Contains(s.before, "Deployment") {
				handler = workloads
			}
			sizes := []int{1000, 5000, 20_000, 60_000}
			if len(s.item) == 1 { // a string, of which a body can hold many bytes
				sizes = append(sizes, maxBody/2)
			}
			for _, n := range sizes {
				checkCost(t, s.body(n), handler)
			}
		})
	}
}

// FuzzCost repeats any item within any body.
func FuzzCost(f *testing.F) {
	for _, s := range strangers {
		f.Add(s.before, s.item, s.after, 500)
	}
	pods, workloads := testMutator(everything(f)), testWorkloads(everything(f), nil)
	f.Fuzz(func(t *testing.T, before, item, after string, n int) {
		if n = min(max(n, 0), 10_000); len(before)+n*len(item)+len(after) > 1<<20 {
			t.Skip()
		}
		checkCost(t, stranger{before, item, after}.body(n), pods, workloads)
	})
}

func TestCosts(t *testing.T) {
	const base = costBase
	for name, test := range map[string]struct {
		body string
		want int64
		err  error
	}{
		"empty object":              {`{}`, base + 2*costByte + costMember, nil},
		"members":                   {`{"a":1,"b":null}`, base + 16*costByte + 2*costMember, nil},
		"items":                     {`[1,null,{}]`, base + 11*costByte + costMember + 3*(costItem+costContainer), nil},
		"texts are no structures":   {`{"a":"{[,]}"}`, base + 13*costByte + costMember, nil},
		"quotes in a text":          {`{"a":"\"{","b":"\\\\"}`, base + 22*costByte + 2*costMember, nil},
		"a text without an end":     {`["\\\",,,`, base + 9*costByte + costItem + costContainer, nil},
		"the level above":           {`[{"a":[]},1]`, base + 12*costByte + costMember + 3*(costItem+costContainer), nil},
		"deep":                      {strings.Repeat("[", maxDepth), base + maxDepth*(costByte+costItem+costContainer), nil},
		"too deep":                  {strings.Repeat("[", maxDepth+1), 0, errDepth},
		"deep again and again":      {strings.Repeat("[]", 100), base + 200*costByte + 100*(costItem+costContainer), nil},
		"a number":                  {strings.Repeat("1", maxNumber), base + maxNumber*costByte, nil},
		"a number that is too long": {"-" + strings.Repeat("1", maxNumber), 0, errNumber},
		"digits in a text":          {`"` + strings.Repeat("1", maxNumber+1) + `"`, base + (maxNumber+3)*costByte, nil},
		"no UTF-8":                  {"\"\xff\"", 0, errUTF8},
	} {
		if got, err := costOf([]byte(test.body)); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %d, %v, want %d, %v", name, got, err, test.want, test.err)
		}
	}
}

// An ordinary pod is a small review, and each body of an allowed size fits into a room.
func TestRoomsAreLargeEnough(t *testing.T) {
	if cost, err := costOf(envelope(t, ordinaryPod(t), nil)); err != nil || cost > smallCost {
		t.Errorf("an ordinary pod costs %d KiB, %v", cost>>10, err)
	}
	if cost, err := costOf(largestReview(t)); err != nil || cost > roomForLargeReviews {
		t.Errorf("the largest review costs %d KiB, %v", cost>>10, err)
	}
}

func TestTooLargeObjectsAreReportedToTheirAuthors(t *testing.T) {
	body := strangers["null containers"].body(1_000_000)
	handler := testMutator(everything(t))
	response := answerOf(t, post(handler, body))
	if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "error", "TooLarge")); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if response.Allowed || response.Result.Code != http.StatusRequestEntityTooLarge ||
		!strings.Contains(response.Result.Message, "to read it may take 754 MiB of memory, and 24 are the most") {
		t.Errorf("%+v", response)
	}
	update := bytes.Replace(body, []byte(`"CREATE"`), []byte(`"UPDATE"`), 1)
	if response := answerOf(t, post(testMutator(everything(t)), update)); !response.Allowed {
		t.Errorf("no creation: %+v", response)
	}
	// A workload is left to the failurePolicy.
	recorder := post(testWorkloads(everything(t), nil), strangers["templates"].body(1_000_000))
	if recorder.Code != http.StatusInternalServerError || !strings.Contains(recorder.Body.String(), "too large") {
		t.Errorf("a workload: %d %s", recorder.Code, recorder.Body)
	}
}

func TestBracesInAStringDontCount(t *testing.T) {
	body := inMetadata(`"annotations":{"agentlet.dev/service-names":"web","agentlet.dev/service-port":"80","theirs":"`, `{`, `"}`).body(200_000)
	if response := answerOf(t, post(testMutator(everything(t)), body)); !response.Allowed || response.Patch == nil {
		t.Errorf("%+v", response.Result)
	}
}

// requestWithin is a request with this timeout.
func requestWithin(timeout string, body io.Reader) *http.Request {
	request := httptest.NewRequest(http.MethodPost, MutatePath+"?timeout="+timeout, body)
	request.Header.Set("Content-Type", "application/json")
	return request
}

func TestReviewsWaitForRoomAsLongAsTheirCallers(t *testing.T) {
	large := inSpec(`"containers":[{"command":["`, `x`, `"]}]`).body(1 << 20)
	for name, room := range map[string]func(ctx context.Context, m *memory) (release func(), err error){
		"bodies":  func(ctx context.Context, m *memory) (func(), error) { return m.forBody(ctx, roomForBodies) },
		"reviews": func(ctx context.Context, m *memory) (func(), error) { return m.forReview(ctx, roomForLargeReviews) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler := testMutator(everything(t))
				release, err := room(t.Context(), handler.memory)
				if err != nil {
					t.Fatal(err)
				}
				if answer := post(handler, envelope(t, ordinaryPod(t), nil)); answer.Code != http.StatusOK {
					t.Errorf("an ordinary review waits for a large one: %s", answer.Body)
				}
				began, recorder := time.Now(), httptest.NewRecorder()
				handler.ServeHTTP(recorder, requestWithin("4s", bytes.NewReader(large)))
				if waited := time.Since(began); waited != 2*time.Second || recorder.Code != http.StatusInternalServerError ||
					!strings.Contains(recorder.Body.String(), "try again") {
					t.Errorf("waited %s of 4s, and is told %d %.300s", waited, recorder.Code, recorder.Body)
				}
				if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "error", "Busy")); n != 1 {
					t.Errorf("counted %v times", n)
				}
				answered := make(chan *httptest.ResponseRecorder)
				go func() {
					recorder := httptest.NewRecorder()
					handler.ServeHTTP(recorder, requestWithin("4s", bytes.NewReader(large)))
					answered <- recorder
				}()
				synctest.Wait()
				time.Sleep(time.Second)
				release()
				if recorder := <-answered; recorder.Code != http.StatusOK || time.Since(began) != 3*time.Second {
					t.Errorf("with room, after %s: %d %.300s", time.Since(began), recorder.Code, recorder.Body)
				}
			})
		})
	}
}

// A client that announces a large body and sends none delays others for bodyTimeout, and no longer.
func TestAMissingBodyReleasesItsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := testMutator(everything(t))
		ours, theirs := net.Pipe()
		served := make(chan error)
		connections := make(pipes, 1)
		server := &http.Server{Handler: handler}
		go func() { served <- server.Serve(connections) }()
		connections <- theirs
		if _, err := fmt.Fprintf(ours, "POST /?timeout=30s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			maxBody, strings.Repeat(" ", smallBody)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if handler.memory.bodies.TryAcquire(roomForBodies - maxBody + 1) {
			t.Error("nothing is held for the body")
		}
		began := time.Now()
		response, err := http.ReadResponse(bufio.NewReader(ours), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if waited := time.Since(began); waited != bodyTimeout || response.StatusCode != http.StatusBadRequest {
			t.Errorf("answered %d after %s", response.StatusCode, waited)
		}
		if !handler.memory.bodies.TryAcquire(roomForBodies) {
			t.Error("the room is still held")
		}
		_, _ = io.Copy(io.Discard, ours) // until the server has closed it
		_ = server.Close()
		<-served
	})
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if connection, ok := <-p; ok {
		return connection, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// A caller whose deadline has passed gets no decision.
func TestNothingIsDecidedAfterTheDeadline(t *testing.T) {
	handler := testMutator(decide(func(injector.Request) injector.Decision {
		t.Error("decided")
		return injector.Decision{}
	}))
	recorder := httptest.NewRecorder()
	request := requestWithin("1ns", bytes.NewReader(envelope(t, ordinaryPod(t), nil)))
	if handler.ServeHTTP(recorder, request); recorder.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}

func TestTheCallersTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3s": 3 * time.Second, "500ms": 500 * time.Millisecond, "1h": maxTimeout,
		"": defaultTimeout, "0s": defaultTimeout, "-1s": defaultTimeout, "x": defaultTimeout,
	} {
		if got := timeoutOf(requestWithin(text, nil)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
