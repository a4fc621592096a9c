//go:build tools

// Package consul pins the newest Consul under the Mozilla Public License that the module proxy has. 1.16.6 has another licence.
package consul

import _ "github.com/hashicorp/consul"
