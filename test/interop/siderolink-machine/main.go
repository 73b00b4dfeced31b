package main

import (
	"google.golang.org/grpc"

	_ "github.com/siderolabs/siderolink/api/events"
	_ "github.com/siderolabs/siderolink/api/siderolink"
	_ "github.com/siderolabs/siderolink/pkg/events"
	_ "github.com/siderolabs/siderolink/pkg/wgtunnel"
	_ "github.com/siderolabs/siderolink/pkg/wireguard"
)

func main() { _ = grpc.NewServer() }
