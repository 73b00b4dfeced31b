// Command ping asks an IPv6 host for echoes through the kernel (RFC 4443): ping ADDRESS COUNT SIZE. It ends with 1 when one does not come.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, countText, sizeText string) error {
	count, err := strconv.Atoi(countText)
	if err != nil {
		return err
	}

	size, err := strconv.Atoi(sizeText)
	if err != nil {
		return err
	}

	// The kernel fills in and checks the checksum of ICMPv6 on raw sockets (RFC 3542 3.1).
	conn, err := net.Dial("ip6:ipv6-icmp", address)
	if err != nil {
		return err
	}
	defer conn.Close()

	for sequence := range count {
		if err := echo(conn, uint16(sequence), size); err != nil {
			return fmt.Errorf("echo %d: %w", sequence, err)
		}
	}

	fmt.Printf("%d echoes of %d bytes\n", count, size)

	return nil
}

func echo(conn net.Conn, sequence uint16, size int) error {
	request := make([]byte, 8+size)
	request[0] = 128
	binary.BigEndian.PutUint16(request[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(request[6:], sequence)
	rand.Read(request[8:])

	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}

	if _, err := conn.Write(request); err != nil {
		return err
	}

	answer := make([]byte, 2048)

	for {
		n, err := conn.Read(answer)
		if err != nil {
			return err
		}

		if n < 8 || answer[0] != 129 || !bytes.Equal(answer[4:8], request[4:8]) {
			continue
		}

		if !bytes.Equal(answer[8:n], request[8:]) {
			return fmt.Errorf("other bytes came back")
		}

		return nil
	}
}
