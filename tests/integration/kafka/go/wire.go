package main

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
)

// Which requests a client sent, and in which versions: read off its connections, as no client tells it.

var (
	seen     = map[int16]map[int16]bool{}
	seenLock sync.Mutex
)

// spoken gives the versions by API key.
func spoken() map[int16][]int16 {
	seenLock.Lock()
	defer seenLock.Unlock()
	versions := map[int16][]int16{}
	for key, found := range seen {
		for version := range found {
			versions[key] = append(versions[key], version)
		}
	}
	return versions
}

// watched is a connection of which the head of each request is looked at.
type watched struct {
	net.Conn
	head []byte // of the request that is being sent, as far as it is known
	rest int    // of that request, beyond its head
}

const headBytes = 8 // size, API key, version

func (w *watched) Write(data []byte) (int, error) {
	n, err := w.Conn.Write(data)
	for sent := data[:n]; len(sent) > 0; {
		if w.rest > 0 {
			passed := min(w.rest, len(sent))
			w.rest -= passed
			sent = sent[passed:]
			continue
		}
		taken := min(headBytes-len(w.head), len(sent))
		w.head = append(w.head, sent[:taken]...)
		sent = sent[taken:]
		if len(w.head) == headBytes {
			w.rest = int(binary.BigEndian.Uint32(w.head)) - 4
			note(int16(binary.BigEndian.Uint16(w.head[4:])), int16(binary.BigEndian.Uint16(w.head[6:])))
			w.head = w.head[:0]
		}
	}
	return n, err
}

func note(key, version int16) {
	seenLock.Lock()
	defer seenLock.Unlock()
	if seen[key] == nil {
		seen[key] = map[int16]bool{}
	}
	seen[key][version] = true
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watched{Conn: connection}, nil
}

// dialer is the same for sarama, which takes it as a proxy.
type dialer struct{}

func (dialer) Dial(network, address string) (net.Conn, error) {
	return dial(context.Background(), network, address)
}
