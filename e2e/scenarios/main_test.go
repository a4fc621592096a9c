package scenarios_test

import (
	"os"
	"testing"

	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestMain(m *testing.M) { os.Exit(scenario.Main(m)) }
