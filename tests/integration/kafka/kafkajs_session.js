// What a program with kafkajs does: node kafkajs_session.js <kafkajs> <bootstrap> <topic> <records>. Tells JSON.
const [, , where, bootstrap, topic, count] = process.argv;
const { Kafka, CompressionTypes, logLevel } = require(where);
const records = Number(count);
const group = `of-${topic}`;

async function main() {
  const kafka = new Kafka({ clientId: "test", brokers: bootstrap.split(","), logLevel: logLevel.ERROR });
  const told = {};
  const admin = kafka.admin();
  await admin.connect();
  told.created = await admin.createTopics({
    waitForLeaders: true,
    topics: [{ topic, numPartitions: 3, replicationFactor: 3, configEntries: [{ name: "retention.ms", value: "86400000" }] }],
  });
  const metadata = await admin.fetchTopicMetadata({ topics: [topic] });
  told.partitions = metadata.topics[0].partitions.length;
  told.brokers = (await admin.describeCluster()).brokers.length;

  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let begin = 0; begin < records; begin += 50) {
    const messages = Array.from({ length: 50 }, (_, at) => ({ key: `k${(begin + at) % 7}`, value: `v${begin + at}`, headers: { at: `${begin + at}` } }));
    const compression = begin % 100 ? CompressionTypes.GZIP : CompressionTypes.None;
    await producer.send({ topic, acks: -1, compression, messages });
  }
  await producer.disconnect();

  const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const read = [];
  await new Promise((done, fail) => {
    consumer.on(consumer.events.CRASH, (event) => fail(event.payload.error));
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        read.push([partition, Number(message.offset), message.key.toString(), message.value.toString(), message.headers.at.toString()]);
        if (read.length === records) done();
      },
    }).catch(fail);
  });
  const offsets = read.reduce((ends, [partition, offset]) => ({ ...ends, [partition]: `${offset + 1}` }), {});
  await consumer.commitOffsets(Object.entries(offsets).map(([partition, offset]) => ({ topic, partition: Number(partition), offset })));
  told.read = read;
  told.state = (await admin.describeGroups([group])).groups[0].state;
  await consumer.disconnect();

  told.stored = (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0].partitions;
  told.ends = await admin.fetchTopicOffsets(topic);
  told.groups = (await admin.listGroups()).groups.map((one) => one.groupId);
  told.deleted = await admin.deleteGroups([group]);
  await admin.deleteTopics({ topics: [topic] });
  for (const until = Date.now() + 20000; Date.now() < until; await new Promise((done) => setTimeout(done, 50))) {
    told.topics = await admin.listTopics(); // any broker is asked, and it may hear of that a moment later
    if (!told.topics.includes(topic)) break;
  }
  await admin.disconnect();
  console.log(JSON.stringify(told));
}

main().catch((error) => {
  console.error(error.stack || error);
  process.exit(1);
});
