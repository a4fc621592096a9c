//go:build tools

// Package consul pins the Consul of the test cluster.
package consul

import _ "github.com/hashicorp/consul"
