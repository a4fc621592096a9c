//go:build tools

// Package consul pins the Consul of the test cluster. It is under the Business Source License 1.1, which allows non-production use.
package consul

import _ "github.com/hashicorp/consul"
