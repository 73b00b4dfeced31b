//go:build tools

package main

import (
	_ "github.com/siderolabs/siderolink/cmd/siderolink-agent"
	_ "golang.zx2c4.com/wireguard"
)
