package agentlet

import (
	"errors"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestStatusReadsTheCatalog: /status reports the catalog of now, also where nothing else reads it, and many requests
// cost one read a second.
func TestStatusReadsTheCatalog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		read := func() contract.Status { return *r.ReadStatus(t.Context()) }
		after(time.Hour)
		w.set(func() { w.own = contract.Critical })
		after(time.Minute)
		reads := w.count("catalog")
		if got := read().Services[0]; got.Catalog != contract.Critical || got.Failing != "own" {
			t.Errorf("a minute after its check has failed the status says %q, failing %q", got.Catalog, got.Failing)
		}
		for range 100 {
			read()
		}
		if n := w.count("catalog") - reads; n > 2 {
			t.Errorf("%d reads for a hundred requests in a moment", n)
		}
		after(10 * time.Second)
		w.setFail(failing(errors.New("500"), "catalog"))
		began := time.Now()
		status := read()
		if took := time.Since(began); took > statusWait {
			t.Errorf("the status took %s with a catalog that can't be read", took)
		}
		if status.CatalogReadAt == nil || began.Sub(*status.CatalogReadAt) < 10*time.Second {
			t.Errorf("the catalog was last read at %v, says the status at %v", status.CatalogReadAt, began)
		}
	})
}
