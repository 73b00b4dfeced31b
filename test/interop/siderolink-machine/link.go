package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"google.golang.org/grpc"

	"github.com/siderolabs/siderolink/pkg/wgtunnel"
	"github.com/siderolabs/siderolink/pkg/wgtunnel/wgbind"
	"github.com/siderolabs/siderolink/pkg/wgtunnel/wggrpc"
	"github.com/siderolabs/siderolink/pkg/wireguard"
)

// link brings WireGuard up the way that the plane said; it goes on until ctx ends, and what ends it before goes to failed.
func link(
	ctx context.Context, place *placed, conn *grpc.ClientConn, logger *zap.Logger, running *sync.WaitGroup, failed context.CancelCauseFunc,
) error {
	if place.tunnelAddress != "" {
		return linkByTunnel(ctx, place, conn, logger, running, failed)
	}

	device, err := wireguard.NewDevice(wireguard.DeviceConfig{
		Logger:         logger,
		ServerPrefix:   place.node,
		PrivateKey:     place.key,
		ForceUserspace: true,
	})
	if err != nil {
		return err
	}

	peers := make(onePeer, 1)
	keepalive := wireguard.RecommendedPersistentKeepAliveInterval
	peers <- wireguard.PeerEvent{
		PubKey:                      place.planeKey,
		Endpoint:                    place.endpoint,
		Address:                     place.plane,
		PersistentKeepAliveInterval: &keepalive,
	}

	running.Go(func() {
		defer device.Close() //nolint:errcheck

		if err := device.Run(ctx, logger, peers); err != nil {
			failed(fmt.Errorf("wireguard: %w", err))
		}
	})

	return nil
}

type onePeer chan wireguard.PeerEvent

func (p onePeer) EventCh() <-chan wireguard.PeerEvent { return p }

// linkByTunnel carries the packets of WireGuard in a gRPC stream.
func linkByTunnel(
	ctx context.Context, place *placed, conn *grpc.ClientConn, logger *zap.Logger, running *sync.WaitGroup, failed context.CancelCauseFunc,
) error {
	ours, err := netip.ParseAddrPort(place.tunnelAddress)
	if err != nil {
		return err
	}

	queues := wgbind.NewQueuePair(100, 100)

	device, err := wgtunnel.NewTunnelDevice(wireguard.InterfaceName, wireguard.LinkMTU, queues, logger)
	if err != nil {
		return err
	}

	running.Go(func() {
		if err := device.Run(); err != nil && ctx.Err() == nil {
			failed(fmt.Errorf("tunnel device: %w", err))
		}
	})
	context.AfterFunc(ctx, device.Close)

	if _, err := wireguard.SetupIPToInterface(place.node, device.IfaceName()); err != nil {
		return err
	}

	control, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer control.Close() //nolint:errcheck

	keepalive := wireguard.RecommendedPersistentKeepAliveInterval

	err = control.ConfigureDevice(device.IfaceName(), wgtypes.Config{
		PrivateKey: &place.key,
		Peers: []wgtypes.PeerConfig{{
			PublicKey:                   place.planeKey,
			Endpoint:                    net.UDPAddrFromAddrPort(ours),
			PersistentKeepaliveInterval: &keepalive,
			AllowedIPs:                  []net.IPNet{{IP: place.plane.AsSlice(), Mask: net.CIDRMask(128, 128)}},
		}},
	})
	if err != nil {
		return err
	}

	iface, err := net.InterfaceByName(device.IfaceName())
	if err != nil {
		return err
	}

	if err := wireguard.LinkUp(iface); err != nil {
		return err
	}

	relay := wggrpc.NewRelay(conn, 5*time.Second, queues, ours)

	running.Go(func() {
		if err := relay.Run(ctx, logger); err != nil && ctx.Err() == nil {
			failed(fmt.Errorf("tunnel: %w", err))
		}
	})

	return nil
}
