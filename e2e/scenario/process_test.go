package scenario

import (
	"os"
	"testing"
	"time"
)

func TestProcessOfThisTest(t *testing.T) {
	self := Process{os.Getpid()}
	used, err := self.ProcessorTime()
	if err != nil || used <= 0 || used > time.Hour {
		t.Errorf("ProcessorTime = %s, %v", used, err)
	}
	memory, err := self.AnonymousMemory()
	if err != nil || memory < 1<<20 {
		t.Errorf("AnonymousMemory = %d, %v", memory, err)
	}
	if memory, err := self.CgroupMemory(); err == nil && memory <= 0 {
		t.Errorf("CgroupMemory = %d", memory)
	}
}

func TestIdentityOfThisTest(t *testing.T) {
	user, group, err := Process{os.Getpid()}.Identity()
	if err != nil || user != os.Geteuid() || group != os.Getegid() {
		t.Errorf("%d:%d, %v", user, group, err)
	}
	if _, _, err := (Process{1 << 30}).Identity(); err == nil {
		t.Error("a process that is not there has an identity")
	}
}

func TestProcessThatIsNotThere(t *testing.T) {
	gone := Process{1 << 30}
	if _, err := gone.ProcessorTime(); err == nil {
		t.Error("a process that is not there has processor time")
	}
	if _, err := gone.CgroupMemory(); err == nil {
		t.Error("a process that is not there has memory")
	}
}

func TestSumCountsWhatItsLabelsSay(t *testing.T) {
	text := []byte(`# TYPE requests_total counter
requests_total{path="a"} 3
requests_total{path="b"} 4
# TYPE took summary
took{path="a",quantile="0.5"} 9
took_sum{path="a"} 12
took_count{path="a"} 5
`)
	only := func(path string) func(map[string]string) bool {
		return func(labels map[string]string) bool { return labels["path"] == path }
	}
	for _, c := range []struct {
		name, path string
		want       float64
	}{{"requests_total", "a", 3}, {"requests_total", "b", 4}, {"took", "a", 5}, {"none", "a", 0}} {
		if got, err := Sum(text, c.name, only(c.path)); err != nil || got != c.want {
			t.Errorf("Sum of %s for %s = %g, %v; want %g", c.name, c.path, got, err, c.want)
		}
	}
	if _, err := Sum([]byte("{"), "x", only("a")); err == nil {
		t.Error("what is no metric has a sum")
	}
}
