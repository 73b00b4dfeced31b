// Command siderolink-machine joins a plane the way a Talos machine does, with the stock siderolink module: it provisions, brings
// WireGuard up (by UDP, or through the gRPC tunnel when the plane says so), serves the Talos API of a machine in maintenance, publishes
// events and sends log lines. Without a unique token it waits until the plane writes it one to META, and provisions again with that.
// It wants a network namespace of its own, with a TUN device. What happens it tells on stdout, one JSON object a line; it ends on
// SIGTERM, or with 1 when it fails.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/siderolabs/siderolink/api/siderolink"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

type options struct {
	api, uuid, joinToken, uniqueToken, talosVersion, hostname string

	tunnel, awaitToken             bool
	eventsPort, logsPort, apidPort int
	logLines                       int
}

func main() {
	var o options

	flag.StringVar(&o.api, "api", "", "machine API of the plane, HOST:PORT, plaintext")
	flag.StringVar(&o.uuid, "uuid", "", "UUID of the machine")
	flag.StringVar(&o.joinToken, "join-token", "", "join token")
	flag.StringVar(&o.uniqueToken, "unique-token", "", "unique token of the machine, verbatim; empty: the plane gives one")
	flag.BoolVar(&o.awaitToken, "await-token", false, "wait for a unique token of the plane although it has one")
	flag.StringVar(&o.talosVersion, "talos-version", "v1.13.0", "version that it says it runs")
	flag.BoolVar(&o.tunnel, "tunnel", false, "ask for WireGuard over gRPC")
	flag.IntVar(&o.eventsPort, "events-port", 8090, "port of the event sink, inside the link")
	flag.IntVar(&o.logsPort, "logs-port", 8092, "port of the log receiver, inside the link")
	flag.IntVar(&o.apidPort, "apid-port", 50000, "port of its Talos API, inside the link")
	flag.StringVar(&o.hostname, "hostname", "talos-interop", "hostname that it says it has")
	flag.IntVar(&o.logLines, "log-lines", 10, "log lines to send")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		say("failed", map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}

var saying sync.Mutex

// say tells what happened.
func say(what string, facts map[string]any) {
	saying.Lock()
	defer saying.Unlock()

	line := map[string]any{"what": what}
	for key, value := range facts {
		line[key] = value
	}

	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		panic(err)
	}
}

// placed is what a machine knows once it was provisioned.
type placed struct {
	key           wgtypes.Key
	planeKey      wgtypes.Key
	node          netip.Prefix
	plane         netip.Addr
	endpoint      string
	tunnelAddress string
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	conn, err := grpc.NewClient(o.api, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck

	// A key of its own as every boot has.
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return err
	}

	place, err := provision(ctx, conn, key, o)
	if err != nil {
		return fmt.Errorf("provision: %w", err)
	}

	logger := zap.NewNop()

	var linked sync.WaitGroup

	defer linked.Wait()
	defer cancel(nil)

	if err := link(ctx, place, conn, logger, &linked, cancel); err != nil {
		return fmt.Errorf("link: %w", err)
	}

	meta, err := serveApid(ctx, place, o)
	if err != nil {
		return fmt.Errorf("apid: %w", err)
	}

	if err := sendEvents(ctx, place, o); err != nil {
		return fmt.Errorf("events: %w", err)
	}

	if o.uniqueToken == "" || o.awaitToken {
		if err := admitted(ctx, conn, place, meta, o); err != nil {
			return fmt.Errorf("provision again: %w", err)
		}
	}

	logs, err := sendLogs(ctx, place, o)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer logs.Close() //nolint:errcheck

	say("settled", nil)
	<-ctx.Done()

	return context.Cause(ctx)
}

// admitted waits for the unique token and provisions with it: the same key, so the place must be the same.
func admitted(
	ctx context.Context, conn *grpc.ClientConn, place *placed, meta <-chan *machine.MetaWriteRequest, o options,
) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case written := <-meta:
			if written.GetKey() == uuidKey {
				o.uuid = string(written.GetValue())
			}

			// The UUID comes first where there is one, and goes with the token.
			if written.GetKey() != uniqueTokenKey {
				continue
			}

			o.uniqueToken = string(written.GetValue())
		}

		again, err := provision(ctx, conn, place.key, o)
		if err != nil {
			return err
		}

		if again.node != place.node || again.planeKey != place.planeKey || again.tunnelAddress != place.tunnelAddress {
			return fmt.Errorf("the plane moved a machine that it admitted, from %s to %s", place.node, again.node)
		}

		return nil
	}
}

// provision asks the plane for a place in the link.
func provision(ctx context.Context, conn *grpc.ClientConn, key wgtypes.Key, o options) (*placed, error) {
	request := &pb.ProvisionRequest{
		NodeUuid:      o.uuid,
		NodePublicKey: key.PublicKey().String(),
		TalosVersion:  &o.talosVersion,
	}
	if o.uniqueToken != "" {
		request.NodeUniqueToken = &o.uniqueToken
	}

	if o.joinToken != "" {
		request.JoinToken = &o.joinToken
	}

	if o.tunnel {
		request.WireguardOverGrpc = &o.tunnel
	}

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	response, err := pb.NewProvisionServiceClient(conn).Provision(ctx, request)
	if err != nil {
		return nil, err
	}

	place := &placed{key: key, tunnelAddress: response.GetGrpcPeerAddrPort()}

	if place.planeKey, err = wgtypes.ParseKey(response.GetServerPublicKey()); err != nil {
		return nil, err
	}

	if place.node, err = netip.ParsePrefix(response.GetNodeAddressPrefix()); err != nil {
		return nil, err
	}

	if place.plane, err = netip.ParseAddr(response.GetServerAddress()); err != nil {
		return nil, err
	}

	endpoints := response.GetEndpoints()
	if len(endpoints) == 0 {
		return nil, errors.New("the plane named no endpoint")
	}

	place.endpoint = endpoints[0]

	say("provisioned", map[string]any{
		"publicKey": key.PublicKey().String(),
		"address":   place.node.String(),
		"plane":     place.plane.String(),
		"endpoints": endpoints,
		"tunnel":    place.tunnelAddress,
	})

	return place, nil
}
