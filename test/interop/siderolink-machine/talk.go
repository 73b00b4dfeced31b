package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/siderolabs/siderolink/api/events"
)

// sendEvents publishes what a booting machine publishes, one after the other as Talos does; one is of a type that no plane knows.
func sendEvents(ctx context.Context, place *placed, o options) error {
	conn, err := grpc.NewClient(
		net.JoinHostPort(place.plane.String(), strconv.Itoa(o.eventsPort)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck

	client := events.NewEventSinkServiceClient(conn)

	for i, message := range []proto.Message{
		&machine.SequenceEvent{Sequence: "boot", Action: machine.SequenceEvent_START},
		&machine.PhaseEvent{Phase: "startEverything", Action: machine.PhaseEvent_START},
		&machine.ServiceStateEvent{Service: "apid", Action: machine.ServiceStateEvent_RUNNING, Message: "Started"},
		&machine.AddressEvent{Hostname: o.hostname, Addresses: []string{place.node.Addr().String()}},
		durationpb.New(time.Second),
		&machine.MachineStatusEvent{
			Stage: machine.MachineStatusEvent_RUNNING,
			Status: &machine.MachineStatusEvent_MachineStatus{
				Ready:           false,
				UnmetConditions: []*machine.MachineStatusEvent_MachineStatus_UnmetCondition{{Name: "services", Reason: "etcd is not healthy"}},
			},
		},
	} {
		data, err := anypb.New(message)
		if err != nil {
			return err
		}

		call, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err = client.Publish(call, &events.EventRequest{Data: data, Id: fmt.Sprintf("event-%d", i)}, grpc.WaitForReady(true))

		cancel()

		if err != nil {
			return fmt.Errorf("%s: %w", data.GetTypeUrl(), err)
		}

		say("published", map[string]any{"type": data.GetTypeUrl()})
	}

	return nil
}

// sendLogs sends lines as the kernel log of Talos comes; the connection is to stay open, as that of a machine does.
func sendLogs(ctx context.Context, place *placed, o options) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 20 * time.Second}).DialContext(
		ctx, "tcp", net.JoinHostPort(place.plane.String(), strconv.Itoa(o.logsPort)))
	if err != nil {
		return nil, err
	}

	lines := json.NewEncoder(conn)

	for i := range o.logLines {
		err := lines.Encode(map[string]any{
			"msg":         fmt.Sprintf("line %d of the machine: ünïcödé\n", i),
			"talos-time":  time.Now().UTC().Format(time.RFC3339Nano),
			"talos-level": "info",
			"facility":    "user",
			"priority":    "info",
			"seq":         i,
			"clock":       i * 1000,
		})
		if err != nil {
			return nil, err
		}
	}

	say("logged", map[string]any{"lines": o.logLines})

	return conn, nil
}

// retry tries for ten seconds.
func retry(ctx context.Context, try func() error) error {
	deadline := time.After(10 * time.Second)

	for {
		err := try()
		if err == nil {
			return nil
		}

		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-deadline:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
