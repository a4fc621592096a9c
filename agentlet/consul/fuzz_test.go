package consul

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// answer is what listens at the agent's port, and says the same to everything.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Header: a.header.Clone(), Request: r,
		Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

// FuzzAnswers holds that no answer at the agent's port makes the adapter panic, lets it tell of what isn't the pod's own, or
// gets into an error as anything that a condition can't hold.
func FuzzAnswers(f *testing.F) {
	const prefix = "agentlet_shop_web-1_12345678_"
	id := prefix + "web"
	for _, seed := range []struct {
		status      int
		index, body string
	}{
		{200, "7", `"10.0.0.1:8300"`},
		{200, "7", `{"` + id + `":{"ID":"` + id + `","Service":"web","Port":80,"Weights":{"Passing":1},"TaggedAddresses":{"lan":{"Address":"::1"}}}}`},
		{200, "9", `[{"Node":"n","CheckID":"` + contract.HeartbeatID(id) + `","ServiceID":"` + id + `","Status":"passing","Notes":"` + heartbeatNotes + `12"}]`},
		{200, "-1", `[{"Node":"n","CheckID":"serfHealth","Status":"critical","Name":"Serf"}, null]`},
		{200, "x", `[null]`},
		{200, "", `{"` + id + `":null}`},
		{200, "1", "null"},
		{500, "", "No cluster leader"},
		{403, "", "rpc error: ACL not found \xff"},
		{404, "", "Unknown check ID"},
		{302, "", ""},
		{400, "", strings.Repeat("ä", 2000)},
		{400, "", `{"HumanVersion":"1.21.5\u202e"}, unknown field "Ports"`},
		{200, "", `{"` + id + `":{"ID":"` + id + `","Service":"web","Ports":[{"Name":"a","Port":1,"Default":true},null]}}`},
		{200, "2", `{"AccessorID":"a","SecretID":"s","ExpirationTTL":"1h","CreateTime":"0001-01-01T00:00:00Z"}`},
	} {
		f.Add(seed.status, seed.index, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, status int, index string, body []byte) {
		c, err := New(Config{Address: "127.0.0.1:8500", Scheme: "http", HostIP: "127.0.0.1", ACL: ACL{AuthMethod: "m", BearerFile: "/dev/null"}})
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		header.Set("X-Consul-Index", index)
		header.Set("X-Consul-Contenthash", index)
		header.Set("X-Consul-Results-Filtered-By-Acls", index)
		c.http.Transport = answer{status: status, header: header, body: body}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d := agentlet.Definition{ID: id, Service: registration.Service{Name: "web", Port: 80}}
		named := d
		named.Ports = []registration.Port{{Name: "http", Port: 80, Default: true}}
		_, leader := c.HasLeader(ctx)
		observed, inspected := c.Instances(ctx, prefix)
		view, read := c.OnNode(ctx, prefix, 3, time.Second)
		_, changed := c.Changed(ctx, id, "1")
		soon, give := context.WithTimeout(ctx, 20*time.Millisecond) // else a login waits two seconds for its token
		defer give()
		_, login := c.Login(soon)
		for _, err := range []error{
			leader, inspected, read, changed, login, c.Register(ctx, d, contract.Passing, []string{id + ":0"}), c.Deregister(ctx, id),
			c.Update(ctx, contract.HeartbeatID(id), contract.Passing, ""), c.Logout(ctx, 1), c.Register(ctx, named, contract.Passing, nil),
		} {
			if err != nil && (!utf8.ValidString(err.Error()) || len(err.Error()) > 2*maxQuoted) {
				t.Errorf("an error of %d bytes, valid %v: %.200q", len(err.Error()), utf8.ValidString(err.Error()), err)
			}
		}
		for id := range observed {
			if !strings.HasPrefix(id, prefix) {
				t.Errorf("tells of %q", id)
			}
		}
		for id := range view.Instances {
			if !strings.HasPrefix(id, prefix) {
				t.Errorf("the catalog's %q", id)
			}
		}
	})
}
