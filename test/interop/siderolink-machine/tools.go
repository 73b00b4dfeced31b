//go:build tools

package main

import _ "github.com/siderolabs/siderolink/cmd/siderolink-agent"
