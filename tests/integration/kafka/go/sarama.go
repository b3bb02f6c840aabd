package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig(want asked) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	if want.Release != "" {
		config.Version, _ = sarama.ParseKafkaVersion(want.Release)
	}
	config.Net.Proxy.Enable = true
	config.Net.Proxy.Dialer = dialer{}
	return config
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"":       sarama.CompressionNone,
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func saramaProducerConfig(want asked) *sarama.Config {
	config := saramaConfig(want)
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = saramaCodecs[want.Codec]
	config.Producer.RequiredAcks = sarama.RequiredAcks(want.Acks)
	config.Producer.Return.Successes = true
	if want.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	return config
}

func encoder(data []byte) sarama.Encoder {
	if data == nil {
		return nil
	}
	return sarama.ByteEncoder(data)
}

func saramaProduce(want asked, records []record) ([]int64, error) {
	producer, err := sarama.NewSyncProducer(want.Bootstrap, saramaProducerConfig(want))
	if err != nil {
		return nil, err
	}
	var sent []*sarama.ProducerMessage
	for _, one := range records {
		each := &sarama.ProducerMessage{
			Topic: want.Topic, Partition: one.Partition, Key: encoder(one.Key), Value: encoder(one.Value),
			Timestamp: time.UnixMilli(one.TimestampMs),
		}
		for _, header := range one.Headers {
			each.Headers = append(each.Headers, sarama.RecordHeader{Key: header[0], Value: header[1]})
		}
		sent = append(sent, each)
	}
	err = producer.SendMessages(sent)
	var offsets []int64
	for _, each := range sent {
		offsets = append(offsets, each.Offset)
	}
	return offsets, errors.Join(err, producer.Close())
}

func saramaRead(want asked) ([]record, error) {
	config := saramaConfig(want)
	config.Consumer.Return.Errors = true
	consumer, err := sarama.NewConsumer(want.Bootstrap, config)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	messages := make(chan *sarama.ConsumerMessage)
	failures := make(chan error, want.Partitions)
	for partition := range want.Partitions {
		from, err := consumer.ConsumePartition(want.Topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		defer from.AsyncClose()
		go func() {
			for {
				select {
				case one, more := <-from.Messages():
					if !more {
						return
					}
					messages <- one
				case err := <-from.Errors():
					if err != nil {
						failures <- err
					}
				}
			}
		}()
	}
	var read []record
	late := time.After(patience)
	for len(read) < want.Count {
		select {
		case one := <-messages:
			headers := [][2]bytes{}
			for _, header := range one.Headers {
				headers = append(headers, [2]bytes{header.Key, header.Value})
			}
			read = append(read, record{one.Partition, one.Offset, one.Key, one.Value, headers, one.Timestamp.UnixMilli()})
		case err := <-failures:
			return read, err
		case <-late:
			return read, fmt.Errorf("only %d of %d came", len(read), want.Count)
		}
	}
	return read, nil
}

func saramaStream(want asked, stop <-chan struct{}) (stream, error) {
	config := saramaProducerConfig(want)
	config.Producer.Retry.Max = 100 // three, unless told otherwise, are over before another leader is elected
	producer, err := sarama.NewAsyncProducer(want.Bootstrap, config)
	if err != nil {
		return stream{}, err
	}
	told := stream{Errors: []string{}}
	var outcomes sync.WaitGroup
	outcomes.Go(func() {
		for one := range producer.Successes() {
			told.Offsets = append(told.Offsets, one.Offset)
		}
	})
	outcomes.Go(func() {
		for one := range producer.Errors() {
			told.Errors = append(told.Errors, one.Error())
		}
	})
	for {
		producer.Input() <- &sarama.ProducerMessage{Topic: want.Topic, Value: sarama.StringEncoder(fmt.Sprint(told.Sent))}
		told.Sent++
		select {
		case <-stop:
			producer.AsyncClose() // sends what is still to be sent
			outcomes.Wait()
			return told, nil
		case <-time.After(time.Millisecond):
		}
	}
}

// claims tells what it is given, reads it, and stores how far it read.
type claims struct {
	want  asked
	owned map[int32]bool
	lock  sync.Mutex
}

func (c *claims) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (c *claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c *claims) change(partition int32, isOwned bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if isOwned {
		c.owned[partition] = true
	} else {
		delete(c.owned, partition)
	}
	tell(map[string]any{"owned": keys(c.owned)})
}

func (c *claims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	c.change(claim.Partition(), true)
	defer c.change(claim.Partition(), false)
	for {
		select {
		case one, more := <-claim.Messages():
			if !more {
				return nil
			}
			tell(map[string]any{"read": []any{one.Partition, one.Offset, string(one.Value)}})
			session.MarkMessage(one, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

var saramaStrategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

func saramaMember(want asked, stop <-chan struct{}) error {
	config := saramaConfig(want)
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	strategy, found := saramaStrategies[want.Strategy]
	if !found {
		return fmt.Errorf("no strategy %s", want.Strategy)
	}
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy()}
	group, err := sarama.NewConsumerGroup(want.Bootstrap, want.Group, config)
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			tell(map[string]any{"error": err.Error()})
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	handler := &claims{want: want, owned: map[int32]bool{}}
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{want.Topic}, handler); err != nil && ctx.Err() == nil {
			tell(map[string]any{"error": err.Error()})
			time.Sleep(100 * time.Millisecond)
		}
	}
	return group.Close()
}

func saramaAdmin(want asked) (map[string]any, error) {
	told := map[string]any{}
	config := saramaProducerConfig(want)
	client, err := sarama.NewClient(want.Bootstrap, config)
	if err != nil {
		return told, err
	}
	defer client.Close()
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return told, err
	}
	text := func(value string) *string { return &value }

	settings := map[string]*string{"retention.ms": text("86400000")}
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 3, ConfigEntries: settings}
	if err := admin.CreateTopic(want.Topic, detail, false); err != nil {
		return told, err
	}
	told["made"] = 2
	told["made_again"] = fmt.Sprint(admin.CreateTopic(want.Topic, detail, false))
	if err := admin.CreatePartitions(want.Topic, 3, nil, false); err != nil {
		return told, fmt.Errorf("CreatePartitions: %w", err)
	}
	changes := map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: text("100000")},
	}
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, want.Topic, changes, false); err != nil {
		return told, fmt.Errorf("IncrementalAlterConfig: %w", err)
	}
	configs, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: want.Topic})
	if err != nil {
		return told, fmt.Errorf("DescribeConfig: %w", err)
	}
	found := map[string]string{}
	for _, config := range configs {
		found[config.Name] = config.Value
	}
	told["configs"] = found

	brokers, _, err := admin.DescribeCluster()
	if err != nil {
		return told, fmt.Errorf("DescribeCluster: %w", err)
	}
	told["brokers"] = len(brokers)
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return told, err
	}
	for number := range 10 {
		at := time.UnixMilli(1_700_000_000_000 + int64(number)*1000)
		value := sarama.StringEncoder(fmt.Sprint(number))
		one := &sarama.ProducerMessage{Topic: want.Topic, Partition: 0, Value: value, Timestamp: at}
		if _, _, err := producer.SendMessage(one); err != nil {
			return told, err
		}
	}
	topics, err := admin.DescribeTopics([]string{want.Topic})
	if err != nil {
		return told, fmt.Errorf("DescribeTopics: %w", err)
	}
	told["partitions"] = len(topics[0].Partitions)
	if err := admin.DeleteRecords(want.Topic, map[int32]int64{0: 4}); err != nil {
		return told, fmt.Errorf("DeleteRecords: %w", err)
	}
	places := map[string]int64{"start": sarama.OffsetOldest, "end": sarama.OffsetNewest, "at": 1_700_000_006_500}
	for name, place := range places {
		offsets, err := admin.ListOffsets(map[string]map[int32]int64{want.Topic: {0: place}}, nil)
		if err != nil {
			return told, fmt.Errorf("ListOffsets: %w", err)
		}
		one := offsets[want.Topic][0]
		if !errors.Is(one.Err, sarama.ErrNoError) {
			return told, fmt.Errorf("ListOffsets: %w", one.Err)
		}
		told[name] = one.Offset
	}

	seven := sarama.OffsetAndMetadata{Offset: 7, Metadata: "seven", LeaderEpoch: -1}
	stored := map[string]map[int32]sarama.OffsetAndMetadata{want.Topic: {0: seven}}
	if _, err := admin.AlterConsumerGroupOffsets(want.Group, stored, nil); err != nil {
		return told, fmt.Errorf("AlterConsumerGroupOffsets: %w", err)
	}
	fetched, err := admin.ListConsumerGroupOffsets(want.Group, map[string][]int32{want.Topic: {0}})
	if err != nil {
		return told, fmt.Errorf("ListConsumerGroupOffsets: %w", err)
	}
	block := fetched.GetBlock(want.Topic, 0)
	told["stored"] = []any{block.Offset, block.Metadata}
	told["lag"] = told["end"].(int64) - block.Offset // it reckons none itself
	listed, err := admin.ListConsumerGroups()
	if err != nil {
		return told, fmt.Errorf("ListConsumerGroups: %w", err)
	}
	_, told["listed"] = listed[want.Group]
	described, err := admin.DescribeConsumerGroups([]string{want.Group})
	if err != nil {
		return told, fmt.Errorf("DescribeConsumerGroups: %w", err)
	}
	told["state"] = described[0].State
	if err := admin.DeleteConsumerGroup(want.Group); err != nil {
		return told, fmt.Errorf("DeleteConsumerGroup: %w", err)
	}
	var ids []int32
	for _, broker := range brokers {
		ids = append(ids, broker.ID())
	}
	dirs, err := admin.DescribeLogDirs(ids)
	if err != nil {
		return told, fmt.Errorf("DescribeLogDirs: %w", err)
	}
	told["log_dirs"] = len(dirs)
	if err := admin.DeleteTopic(want.Topic); err != nil {
		return told, fmt.Errorf("DeleteTopic: %w", err)
	}
	for gone := false; !gone; time.Sleep(50 * time.Millisecond) {
		left, err := admin.ListTopics() // any broker is asked, and it may hear of that a moment later
		if err != nil {
			return told, fmt.Errorf("ListTopics: %w", err)
		}
		_, isThere := left[want.Topic]
		gone = !isThere
	}
	told["deleted_again"] = fmt.Sprint(admin.DeleteTopic(want.Topic))
	return told, nil
}

func saramaTransact(want asked) error {
	want.Idempotent, want.Acks = true, -1
	config := saramaProducerConfig(want)
	config.Producer.Transaction.ID = "of-" + want.Topic
	producer, err := sarama.NewSyncProducer(want.Bootstrap, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.BeginTxn(); err != nil {
		return err
	}
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: want.Topic, Value: sarama.StringEncoder("x")}); err != nil {
		return err
	}
	return producer.CommitTxn()
}
