// What programs with Kafka clients for Go do, for tests: session <client> <what> <what is asked, as JSON>.
// Tells JSON, a line for each thing that happened; ends with what was spoken. Where it goes on until it is told to
// stop, the end of its input tells that.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// asked is what the test wants.
type asked struct {
	Bootstrap  []string
	Topic      string
	Group      string
	Partitions int32
	Count      int    // of records to read
	Codec      string // none, gzip, snappy, lz4, zstd
	Idempotent bool
	Acks       int16
	Strategy   string // by which a group shares out; "server": the broker does
	Release    string // of Kafka, as which sarama is to speak; empty: the newest it knows
}

// record is one, as the test hands it in and gets it back. Bytes are base64 in JSON, and null is kept.
type record struct {
	Partition   int32      `json:"partition"`
	Offset      int64      `json:"offset"`
	Key         []byte     `json:"key"`
	Value       []byte     `json:"value"`
	Headers     [][2]bytes `json:"headers"`
	TimestampMs int64      `json:"timestamp_ms"`
}

type bytes = []byte

// stream is what became of records that were sent one after the other, by number.
type stream struct {
	Sent    int      `json:"sent"`
	Errors  []string `json:"errors"`
	Offsets []int64  `json:"offsets"`
}

// client is what each of them can do.
type client struct {
	produce  func(asked, []record) ([]int64, error)
	read     func(asked) ([]record, error)
	stream   func(asked, <-chan struct{}) (stream, error)
	member   func(asked, <-chan struct{}) error
	admin    func(asked) (map[string]any, error)
	transact func(asked) error
}

var clients = map[string]client{
	"franz-go": {franzProduce, franzRead, franzStream, franzMember, franzAdmin, franzTransact},
	"sarama":   {saramaProduce, saramaRead, saramaStream, saramaMember, saramaAdmin, saramaTransact},
}

var telling sync.Mutex

func tell(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	telling.Lock()
	defer telling.Unlock()
	fmt.Println(string(line))
}

func run() error {
	var want asked
	if err := json.Unmarshal([]byte(os.Args[3]), &want); err != nil {
		return err
	}
	with, found := clients[os.Args[1]]
	if !found {
		return fmt.Errorf("no client %s", os.Args[1])
	}
	switch os.Args[2] {
	case "produce":
		var records []record
		if err := json.NewDecoder(os.Stdin).Decode(&records); err != nil {
			return err
		}
		offsets, err := with.produce(want, records)
		tell(map[string]any{"offsets": offsets})
		return err
	case "read":
		records, err := with.read(want)
		tell(map[string]any{"records": records})
		return err
	case "stream":
		outcome, err := with.stream(want, endOfInput())
		tell(outcome)
		return err
	case "member":
		return with.member(want, endOfInput())
	case "admin":
		told, err := with.admin(want)
		tell(told)
		return err
	case "transact":
		err := with.transact(want)
		if err == nil {
			return fmt.Errorf("it was not refused")
		}
		tell(map[string]any{"refused": err.Error()})
		return nil
	}
	return fmt.Errorf("nothing is called %s", os.Args[2])
}

func endOfInput() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tell(map[string]any{"spoken": spoken()})
}
