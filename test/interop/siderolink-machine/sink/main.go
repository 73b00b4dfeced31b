// Command siderolink-sink is the stock event sink with all events that Talos has: the sink inside the stock siderolink-agent answers
// events without looking into them. Each event goes to stdout, one JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	api "github.com/siderolabs/siderolink/api/events"
	"github.com/siderolabs/siderolink/pkg/events"
)

func main() {
	listen := flag.String("listen", "[fdae:41e4:649b:9303::1]:8090", "where machines send events")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	if err := run(ctx, *listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}

	server := grpc.NewServer()
	api.RegisterEventSinkServiceServer(server, events.NewSink(printer{}, []proto.Message{
		&machine.SequenceEvent{},
		&machine.PhaseEvent{},
		&machine.TaskEvent{},
		&machine.ServiceStateEvent{},
		&machine.RestartEvent{},
		&machine.ConfigLoadErrorEvent{},
		&machine.ConfigValidationErrorEvent{},
		&machine.AddressEvent{},
		&machine.MachineStatusEvent{},
	}))

	context.AfterFunc(ctx, server.Stop)
	fmt.Println(`{"type":"listening"}`)

	return server.Serve(listener)
}

type printer struct{}

func (printer) HandleEvent(_ context.Context, event events.Event) error {
	payload, err := protojson.Marshal(event.Payload)
	if err != nil {
		return err
	}

	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"node":    event.Node,
		"type":    event.TypeURL,
		"id":      event.ID,
		"actor":   event.ActorID,
		"payload": json.RawMessage(payload),
	})
}
