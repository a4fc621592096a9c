// Package restart holds what the demo measures of two rolling restarts under load, without Agentlet and with it. The demo
// writes it, and the documentation's picture is drawn from it.
package restart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/agentlet/agentlet/hack/figures"
)

// File is the name of the file that the demo writes.
const File = "restart.json"

// Stations of a pod's life that both restarts need.
const (
	Admitted     = "admitted"
	Ready        = "Ready"
	InCatalog    = "in the catalog"
	Deleted      = "deleted"
	OutOfCatalog = "out of the catalog"
	SIGTERM      = "SIGTERM"
	Gone         = "gone"
)

// Comparison is the same restart twice, of the same application under the same load.
type Comparison struct {
	// Rate is the number of requests per second.
	Rate int `json:"rate"`
	// ByHand is of pods that a sidecar of their own registers.
	ByHand   Restart `json:"byHand"`
	Agentlet Restart `json:"agentlet"`
}

// Restart is one rolling restart. All times are milliseconds since its beginning.
type Restart struct {
	Requests int `json:"requests"`
	// Failed holds when each failed request began.
	Failed []int `json:"failed"`
	// Old are the replaced pods, New the pods that replaced them, in the order of their stations.
	Old []Pod `json:"old"`
	New []Pod `json:"new"`
}

// Pod is the stations that one pod has passed.
type Pod struct {
	Name string         `json:"name"`
	At   map[string]int `json:"at"`
}

// Parse rejects data that lacks a pod or a station.
func Parse(data []byte) (Comparison, error) {
	var c Comparison
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return Comparison{}, err
	}
	for name, r := range map[string]Restart{"byHand": c.ByHand, "agentlet": c.Agentlet} {
		if len(r.Old) == 0 || len(r.New) == 0 {
			return Comparison{}, fmt.Errorf("%s: %d old and %d new pods: want both", name, len(r.Old), len(r.New))
		}
		if err := requireStations(r.New, Admitted, Ready, InCatalog); err != nil {
			return Comparison{}, fmt.Errorf("%s: %w", name, err)
		}
		if err := requireStations(r.Old, Deleted, OutOfCatalog, SIGTERM, Gone); err != nil {
			return Comparison{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

func requireStations(pods []Pod, stations ...string) error {
	for _, pod := range pods {
		for _, station := range stations {
			if _, ok := pod.At[station]; !ok {
				return fmt.Errorf("%s has no station %q", pod.Name, station)
			}
		}
	}
	return nil
}

// Lead is the shortest time between an old pod's end in the catalog and its SIGTERM; negative if SIGTERM came first.
func (r Restart) Lead() int {
	leads := make([]int, 0, len(r.Old))
	for _, pod := range r.Old {
		leads = append(leads, pod.At[SIGTERM]-pod.At[OutOfCatalog])
	}
	return slices.Min(leads)
}

// Verdict says in a line what the comparison has shown.
func (c Comparison) Verdict() string {
	text := fmt.Sprintf("%d pods replaced under %d requests/s: %d of %s failed (without Agentlet: %d of %s); ",
		len(c.Agentlet.Old), c.Rate, len(c.Agentlet.Failed), figures.Thousands(c.Agentlet.Requests),
		len(c.ByHand.Failed), figures.Thousands(c.ByHand.Requests))
	if lead := c.Agentlet.Lead(); lead > 0 {
		return text + fmt.Sprintf("every old pod had left Consul %.1f s before its SIGTERM", float64(lead)/1000)
	}
	return text + "an old pod was still in Consul at its SIGTERM"
}
