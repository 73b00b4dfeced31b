package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/hardware"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Keys of META under which a machine keeps a UUID in place of its own, and its unique token.
const (
	uuidKey        = 15
	uniqueTokenKey = 16
)

// apid is the Talos API of a machine in maintenance: stock messages, stock COSI server, stock resource types.
type apid struct {
	machine.UnimplementedMachineServiceServer

	version string
	meta    chan *machine.MetaWriteRequest
}

// serveApid answers calls until ctx ends; what is written to META comes out of the channel.
func serveApid(ctx context.Context, place *placed, o options) (<-chan *machine.MetaWriteRequest, error) {
	resources, err := inventory(ctx, o)
	if err != nil {
		return nil, err
	}

	certificate, err := selfSigned(place.node.Addr().AsSlice())
	if err != nil {
		return nil, err
	}

	// The address is there when the device is, which may be in a moment.
	var listener net.Listener

	err = retry(ctx, func() (err error) {
		address := net.JoinHostPort(place.node.Addr().String(), strconv.Itoa(o.apidPort))
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)

		return err
	})
	if err != nil {
		return nil, err
	}

	service := &apid{version: o.talosVersion, meta: make(chan *machine.MetaWriteRequest, 8)}
	grpcServer := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{*certificate},
		MinVersion:   tls.VersionTLS13,
	})))
	machine.RegisterMachineServiceServer(grpcServer, service)
	cosi.RegisterStateServer(grpcServer, server.NewState(resources))

	context.AfterFunc(ctx, grpcServer.Stop)

	go func() {
		if err := grpcServer.Serve(&telling{listener}); err != nil && ctx.Err() == nil {
			say("apid ended", map[string]any{"error": err.Error()})
		}
	}()

	return service.meta, nil
}

// telling says who calls.
type telling struct{ net.Listener }

func (t *telling) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err == nil {
		say("called", map[string]any{"from": conn.RemoteAddr().String()})
	}

	return conn, err
}

func (a *apid) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	return &machine.VersionResponse{Messages: []*machine.Version{{
		Version: &machine.VersionInfo{Tag: a.version, Os: "linux", Arch: "amd64"},
	}}}, nil
}

func (a *apid) MetaWrite(_ context.Context, request *machine.MetaWriteRequest) (*machine.MetaWriteResponse, error) {
	say("meta", map[string]any{"key": request.GetKey(), "value": string(request.GetValue())})
	a.meta <- request

	return &machine.MetaWriteResponse{Messages: []*machine.MetaWrite{{}}}, nil
}

// inventory is what a plane asks a machine for: a machine in maintenance with one disk and one network card, nothing installed.
func inventory(ctx context.Context, o options) (state.CoreState, error) {
	status := runtime.NewMachineStatus()
	status.TypedSpec().Stage = runtime.MachineStageMaintenance
	status.TypedSpec().Status.Ready = true

	hostname := network.NewHostnameStatus(network.NamespaceName, network.HostnameID)
	hostname.TypedSpec().Hostname = o.hostname

	link := network.NewLinkStatus(network.NamespaceName, "eth0")
	link.TypedSpec().Type = nethelpers.LinkEther
	link.TypedSpec().LinkState = true
	link.TypedSpec().HardwareAddr = nethelpers.HardwareAddr{0x02, 0x42, 0xac, 0x11, 0x00, 0x05}
	link.TypedSpec().SpeedMegabits = 1000

	disk := block.NewDisk(block.NamespaceName, "nvme0n1")
	disk.TypedSpec().DevPath = "/dev/nvme0n1"
	disk.TypedSpec().Size = 512_110_190_592
	disk.TypedSpec().Model = "Interop NVMe"
	disk.TypedSpec().Transport = "nvme"

	system := hardware.NewSystemInformation(hardware.SystemInformationID)
	system.TypedSpec().Manufacturer = "Interop Works"
	system.TypedSpec().ProductName = "Box 1"
	system.TypedSpec().SerialNumber = "IW-0001"
	system.TypedSpec().UUID = o.uuid

	processor := hardware.NewProcessorInfo("CPU-1")
	processor.TypedSpec().CoreCount = 6
	processor.TypedSpec().ThreadCount = 12
	processor.TypedSpec().Manufacturer = "Interop"

	memory := hardware.NewMemoryModuleInfo("DIMM-0")
	memory.TypedSpec().Size = 8192

	all := namespaced.NewState(inmem.Build)

	for _, one := range []resource.Resource{status, hostname, link, disk, system, processor, memory} {
		if err := all.Create(ctx, one); err != nil {
			return nil, fmt.Errorf("%s: %w", one.Metadata(), err)
		}
	}

	return all, nil
}

func selfSigned(address net.IP) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "maintenance-service.talos.dev"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{address},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}

	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
