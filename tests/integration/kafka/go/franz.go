package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 60 * time.Second

func franzClient(want asked, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(want.Bootstrap...), kgo.Dialer(dial)}, more...)...)
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"":       kgo.NoCompression(),
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

var franzAcks = map[int16]kgo.Acks{-1: kgo.AllISRAcks(), 0: kgo.NoAck(), 1: kgo.LeaderAck()}

func franzProducer(want asked) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(franzCodecs[want.Codec]),
		kgo.RequiredAcks(franzAcks[want.Acks]),
	}
	if !want.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	return franzClient(want, options...)
}

func franzProduce(want asked, records []record) ([]int64, error) {
	producer, err := franzProducer(want)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var sent []*kgo.Record
	for _, one := range records {
		each := &kgo.Record{
			Topic: want.Topic, Partition: one.Partition, Key: one.Key, Value: one.Value,
			Timestamp: time.UnixMilli(one.TimestampMs),
		}
		for _, header := range one.Headers {
			each.Headers = append(each.Headers, kgo.RecordHeader{Key: string(header[0]), Value: header[1]})
		}
		sent = append(sent, each)
	}
	err = producer.ProduceSync(ctx, sent...).FirstErr()
	var offsets []int64
	for _, each := range sent {
		offsets = append(offsets, each.Offset)
	}
	return offsets, err
}

func franzRead(want asked) ([]record, error) {
	from := map[int32]kgo.Offset{}
	for partition := range want.Partitions {
		from[partition] = kgo.NewOffset().AtStart()
	}
	consumer, err := franzClient(want, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{want.Topic: from}))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var read []record
	for len(read) < want.Count {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return read, err
		}
		fetches.EachRecord(func(one *kgo.Record) {
			headers := [][2]bytes{}
			for _, header := range one.Headers {
				headers = append(headers, [2]bytes{[]byte(header.Key), header.Value})
			}
			read = append(read, record{one.Partition, one.Offset, one.Key, one.Value, headers, one.Timestamp.UnixMilli()})
		})
	}
	return read, nil
}

func franzStream(want asked, stop <-chan struct{}) (stream, error) {
	producer, err := franzProducer(want)
	if err != nil {
		return stream{}, err
	}
	defer producer.Close()
	told := stream{Errors: []string{}}
	var lock sync.Mutex
	for {
		producer.Produce(context.Background(), &kgo.Record{Topic: want.Topic, Value: fmt.Append(nil, told.Sent)},
			func(one *kgo.Record, err error) {
				lock.Lock()
				defer lock.Unlock()
				if err != nil {
					told.Errors = append(told.Errors, err.Error())
				}
				told.Offsets = append(told.Offsets, one.Offset)
			})
		told.Sent++
		select {
		case <-stop:
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return told, producer.Flush(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

func franzMember(want asked, stop <-chan struct{}) error {
	owned := map[int32]bool{}
	var lock sync.Mutex
	changed := func(isOwned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, moved map[string][]int32) {
			lock.Lock()
			defer lock.Unlock()
			for _, partition := range moved[want.Topic] {
				if isOwned {
					owned[partition] = true
				} else {
					delete(owned, partition)
				}
			}
			tell(map[string]any{"owned": keys(owned)})
		}
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(want.Group), kgo.ConsumeTopics(want.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(changed(true)), kgo.OnPartitionsRevoked(changed(false)), kgo.OnPartitionsLost(changed(false)),
	}
	switch want.Strategy {
	case "range":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative-sticky":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "server":
		options = append(options, kgo.ServerSideBalancer())
	case "server-range":
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer()))
	default:
		return fmt.Errorf("no strategy %s", want.Strategy)
	}
	consumer, err := franzClient(want, options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := consumer.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.Canceled) {
				tell(map[string]any{"error": err.Error()})
			}
		})
		if records := fetches.Records(); len(records) > 0 {
			for _, one := range records {
				tell(map[string]any{"read": []any{one.Partition, one.Offset, string(one.Value)}})
			}
			if err := consumer.CommitRecords(context.Background(), records...); err != nil {
				tell(map[string]any{"error": err.Error()})
			}
		}
		consumer.AllowRebalance()
	}
	consumer.CloseAllowingRebalance() // leaves the group
	return nil
}

func keys(of map[int32]bool) []int32 {
	found := []int32{}
	for key := range of {
		found = append(found, key)
	}
	slices.Sort(found)
	return found
}

func franzAdmin(want asked) (map[string]any, error) {
	told := map[string]any{}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	producer, err := franzClient(want, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return told, err
	}
	defer producer.Close()
	admin := kadm.NewClient(producer)
	text := func(value string) *string { return &value }

	made, err := admin.CreateTopic(ctx, 2, 3, map[string]*string{"retention.ms": text("86400000")}, want.Topic)
	if err != nil {
		return told, err
	}
	told["made"] = made.NumPartitions
	_, err = admin.CreateTopic(ctx, 2, 3, nil, want.Topic)
	told["made_again"] = fmt.Sprint(err)
	grown, err := admin.UpdatePartitions(ctx, 3, want.Topic)
	if err = errors.Join(err, grown.Error()); err != nil {
		return told, fmt.Errorf("UpdatePartitions: %w", err)
	}
	setting := kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: text("100000")}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{setting}, want.Topic)
	if err != nil {
		return told, fmt.Errorf("AlterTopicConfigs: %w", err)
	}
	_, err = altered.On(want.Topic, func(one *kadm.AlterConfigsResponse) error { return one.Err })
	if err != nil {
		return told, fmt.Errorf("AlterTopicConfigs: %w", err)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, want.Topic)
	if err != nil {
		return told, fmt.Errorf("DescribeTopicConfigs: %w", err)
	}
	found := map[string]string{}
	for _, config := range configs[0].Configs {
		found[config.Key] = config.MaybeValue()
	}
	told["configs"] = found

	brokers, err := admin.ListBrokers(ctx)
	if err != nil {
		return told, fmt.Errorf("ListBrokers: %w", err)
	}
	told["brokers"] = len(brokers)
	for number := range 10 {
		at := time.UnixMilli(1_700_000_000_000 + int64(number)*1000)
		one := &kgo.Record{Topic: want.Topic, Partition: 0, Value: fmt.Append(nil, number), Timestamp: at}
		if err := producer.ProduceSync(ctx, one).FirstErr(); err != nil {
			return told, err
		}
	}
	topics, err := admin.ListTopics(ctx, want.Topic)
	if err != nil {
		return told, fmt.Errorf("ListTopics: %w", err)
	}
	told["partitions"] = len(topics[want.Topic].Partitions)
	trimmed, err := admin.DeleteRecords(ctx, kadm.Offsets{want.Topic: {0: {Topic: want.Topic, Partition: 0, At: 4}}})
	if err = errors.Join(err, trimmed.Error()); err != nil {
		return told, fmt.Errorf("DeleteRecords: %w", err)
	}
	starts, err := admin.ListStartOffsets(ctx, want.Topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return told, fmt.Errorf("ListStartOffsets: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, want.Topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return told, fmt.Errorf("ListEndOffsets: %w", err)
	}
	at, err := admin.ListOffsetsAfterMilli(ctx, 1_700_000_006_500, want.Topic)
	if err = errors.Join(err, at.Error()); err != nil {
		return told, fmt.Errorf("ListOffsetsAfterMilli: %w", err)
	}
	told["start"], told["end"], told["at"] = starts[want.Topic][0].Offset, ends[want.Topic][0].Offset, at[want.Topic][0].Offset

	var stored kadm.Offsets
	stored.Add(kadm.Offset{Topic: want.Topic, Partition: 0, At: 7, LeaderEpoch: -1, Metadata: "seven"})
	if err := admin.CommitAllOffsets(ctx, want.Group, stored); err != nil {
		return told, fmt.Errorf("CommitAllOffsets: %w", err)
	}
	fetched, err := admin.FetchOffsets(ctx, want.Group)
	if err != nil {
		return told, fmt.Errorf("FetchOffsets: %w", err)
	}
	one, _ := fetched.Lookup(want.Topic, 0)
	told["stored"] = []any{one.At, one.Metadata}
	lags, err := admin.Lag(ctx, want.Group)
	if err = errors.Join(err, lags.Error()); err != nil {
		return told, fmt.Errorf("Lag: %w", err)
	}
	told["lag"] = lags[want.Group].Lag[want.Topic][0].Lag
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return told, fmt.Errorf("ListGroups: %w", err)
	}
	told["listed"] = slices.Contains(listed.Groups(), want.Group)
	described, err := admin.DescribeGroups(ctx, want.Group)
	if err = errors.Join(err, described.Error()); err != nil {
		return told, fmt.Errorf("DescribeGroups: %w", err)
	}
	told["state"] = described[want.Group].State
	if _, err := admin.DeleteGroup(ctx, want.Group); err != nil {
		return told, fmt.Errorf("DeleteGroup: %w", err)
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return told, fmt.Errorf("DescribeAllLogDirs: %w", err)
	}
	told["log_dirs"] = len(dirs)
	if _, err := admin.DeleteTopic(ctx, want.Topic); err != nil {
		return told, fmt.Errorf("DeleteTopic: %w", err)
	}
	for gone := false; !gone; time.Sleep(50 * time.Millisecond) {
		left, err := admin.ListTopics(ctx) // any broker is asked, and it may hear of that a moment later
		if err != nil {
			return told, err
		}
		gone = !left.Has(want.Topic)
	}
	_, err = admin.DeleteTopic(ctx, want.Topic)
	told["deleted_again"] = fmt.Sprint(err)
	return told, nil
}

func franzTransact(want asked) error {
	producer, err := franzClient(want, kgo.TransactionalID("of-"+want.Topic), kgo.DefaultProduceTopic(want.Topic))
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := producer.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
		return err
	}
	return producer.EndTransaction(ctx, kgo.TryCommit)
}
