//go:build tools

// Package tools pins the stock client that the tests run against the plane.
package tools

import _ "github.com/siderolabs/talos/cmd/talosctl/cmd"
