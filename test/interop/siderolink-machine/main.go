// Command siderolink-machine joins a plane the way a Talos machine does, with the stock siderolink module: it provisions, brings
// WireGuard up (by UDP, or through the gRPC tunnel when the plane says so), publishes events, sends log lines and answers on the
// port of apid. It wants a network namespace of its own, with a TUN device. What happens it tells on stdout, one JSON object a line;
// it ends on SIGTERM, or with 1 when it fails.
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
)

type options struct {
	api, uuid, joinToken, uniqueToken, talosVersion string
	tunnel                                          bool
	eventsPort, logsPort, echoPort                  int
	logLines                                        int
}

func main() {
	var o options

	flag.StringVar(&o.api, "api", "", "machine API of the plane, HOST:PORT, plaintext")
	flag.StringVar(&o.uuid, "uuid", "", "UUID of the machine")
	flag.StringVar(&o.joinToken, "join-token", "", "join token")
	flag.StringVar(&o.uniqueToken, "unique-token", "", "unique token of the machine, verbatim")
	flag.StringVar(&o.talosVersion, "talos-version", "v1.13.0", "version that it says it runs")
	flag.BoolVar(&o.tunnel, "tunnel", false, "ask for WireGuard over gRPC")
	flag.IntVar(&o.eventsPort, "events-port", 8090, "port of the event sink, inside the link")
	flag.IntVar(&o.logsPort, "logs-port", 8092, "port of the log receiver, inside the link")
	flag.IntVar(&o.echoPort, "echo-port", 50000, "port that it answers on, inside the link: it sends back all that it gets")
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

	place, err := provision(ctx, conn, o)
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

	if err := echo(ctx, place, o.echoPort); err != nil {
		return fmt.Errorf("listen: %w", err)
	}

	if err := sendEvents(ctx, place, o); err != nil {
		return fmt.Errorf("events: %w", err)
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

// provision asks the plane for a place in the link, with a key of its own as every boot has.
func provision(ctx context.Context, conn *grpc.ClientConn, o options) (*placed, error) {
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}

	request := &pb.ProvisionRequest{
		NodeUuid:        o.uuid,
		NodePublicKey:   key.PublicKey().String(),
		NodeUniqueToken: &o.uniqueToken,
		TalosVersion:    &o.talosVersion,
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
