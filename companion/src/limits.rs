//! Every bound of the companion on one screen, each with its reason.
//!
//! Nothing here is a setting: a setting must say who needs it and why the default cannot serve them.

use std::time::Duration;

/// Body of `POST /v1/events` in bytes: a full batch of the filter (1 MiB) with room for other producers.
pub const INGEST_BODY: usize = 4 << 20;
/// Events in one batch; keeps one transaction, and so everybody's wait for the writer, short.
pub const BATCH_EVENTS: usize = 1_000;
/// Ingest bytes held in memory over all requests at once; above it a request is told 503 and to come back.
pub const INGEST_IN_FLIGHT: usize = 64 << 20;
/// Body of any other API request in bytes; the largest is a subscription with its metadata.
pub const API_BODY: usize = 64 << 10;

/// CloudEvents `id`, `type`: long enough for any UUID or reverse-DNS name, short enough to index.
pub const EVENT_ID: usize = 256;
/// See [`EVENT_ID`].
pub const EVENT_TYPE: usize = 256;
/// CloudEvents `source` and `subject`, both URI references.
pub const EVENT_URI: usize = 2_048;
/// Extension attributes of one event.
pub const EVENT_EXTENSIONS: usize = 64;

/// Body of `POST /v1/unmatched` in bytes: a full report of long paths.
pub const UNMATCHED_BODY: usize = 256 << 10;
/// Shapes in one report.
pub const UNMATCHED_REPORT: usize = 100;
/// Shapes kept in all; nobody writes rules from a longer list. A new one takes the place of the least recently seen.
pub const UNMATCHED_SHAPES: usize = 1_000;
/// Characters of a shape's `path`; filters cut theirs much shorter.
pub const UNMATCHED_PATH: usize = 1_024;
/// Characters of a shape's `method`; the longest registered one has 17.
pub const UNMATCHED_METHOD: usize = 32;
/// Writes of one shape in one report: more than any filter sees between two of them.
pub const UNMATCHED_COUNT: u64 = 1_000_000_000;

/// Subscriptions and event types, in pairs, that are counted for charts before they are written: several times as many as
/// there are subscriptions in a large installation, at some 400 bytes each. Attempts of more are delivered all the same, and
/// charts show less.
pub const STATISTICS_PAIRS: usize = 40_000;
/// Rows of counts that a store which is away leaves waiting, at some 350 bytes each: an hour of a hundred pairs.
pub const STATISTICS_WAITING: usize = 50_000;
/// How often counts are written: what a process that is killed had not written is missing from charts.
pub const STATISTICS_EVERY: Duration = Duration::from_secs(5);
/// Pairs up to which they are written as often: writing one pair takes about 13 µs, so a thousand are some thousandths of a
/// core.
pub const STATISTICS_FEW: usize = 1_000;
/// How many times in a row the writing of more is put off, so that they take no more than that either.
pub const STATISTICS_PUT_OFF: u32 = 5;
/// Rows of counts that are written or removed in one transaction: a few milliseconds of the writer's time.
pub const STATISTICS_CHUNK: usize = 500;
/// How long counts are kept by the minute: the range that a chart has where none is asked for, a day, and what passes while
/// somebody looks at it. Hours are kept for the retention.
pub const STATISTICS_MINUTES: Duration = Duration::from_secs(25 * 3600);
/// Steps of a chart where the caller names none: a screen's width of bars.
pub const CHART_STEPS: i64 = 120;
/// Steps of a chart at most: a day by the minute.
pub const CHART_STEPS_MOST: i64 = 1_500;
/// Groups of a chart, those with most attempts.
pub const CHART_GROUPS: usize = 1_000;
/// Rows of counts that a chart looks at: about half a second of one core.
pub const CHART_ROWS: usize = 500_000;

/// Patterns in a subscription's `events`.
pub const SUBSCRIPTION_EVENTS: usize = 100;
/// Characters of a `target_url`; browsers and proxies agree on about 2,000.
pub const TARGET_URL: usize = 2_048;
/// Characters of a `description` or `tenant`.
pub const SHORT_TEXT: usize = 1_000;
/// Requests in a second that one tenant has us send to receivers at once, pings and handshakes: who tests by hand needs no
/// more, and nobody floods another by way of us.
pub const TENANT_CALLS_PER_SECOND: u32 = 5;
/// How old events may be whose data's change is told: a companion that was down over night tells it, an upgrade tells nothing
/// of last month.
pub const CATALOGUE_NEWS: Duration = Duration::from_secs(24 * 3600);
/// Replays that run at once for a tenant: enough to put a bad day right, and few of those that run for all.
pub const TENANT_REPLAYS: usize = 3;
/// Requests of tenants that read at once, lists and charts: what they cost must not keep events from being taken.
pub const TENANT_READS: usize = 3;
/// Names looked up at once; a name server that does not answer keeps a thread for many seconds, and others need threads too.
pub const LOOKUPS: usize = 128;
/// Tenants whose requests are counted before those are forgotten who make none.
pub const TENANTS_COUNTED: usize = 10_000;
/// How long a link to the portal is good: a sitting.
pub const LINK: Duration = Duration::from_secs(3600);
/// The shortest that is of use.
pub const LINK_LEAST: Duration = Duration::from_secs(60);
/// The longest: a link cannot be taken back.
pub const LINK_MOST: Duration = Duration::from_secs(24 * 3600);
/// `metadata` as JSON, in bytes.
pub const METADATA: usize = 8 << 10;
/// Secrets of one subscription that sign at the same time: the current one and those in their overlap.
pub const ACTIVE_SECRETS: usize = 5;
/// Longest overlap of a rotation in days.
pub const SECRET_OVERLAP_MOST_DAYS: u64 = 7;
/// Subscriptions whose secrets are sealed again in one transaction.
pub const RESEAL_CHUNK: usize = 500;
/// How long the old secret still signs after a rotation (design §3).
pub const SECRET_OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Bytes of events in one page of a list, or of a reading of the store: a page of larger ones has fewer.
pub const EVENT_PAGE: usize = 4 << 20;
/// Readings of the store for one page, so that a filter that fits little ends in time; the cursor goes on.
pub const EVENT_PAGES: usize = 20;
/// Event streams open at once.
pub const STREAMS: usize = 256;
/// How long a stream goes on before its reader has to come back, with a token that is still good.
pub const STREAM: Duration = Duration::from_secs(3600);
/// Events that a stream holds in memory.
pub const STREAM_PAGE: usize = 50;
/// How often an idle stream sends a comment, so that nobody in between takes it for dead.
pub const STREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A subscription's `match` as JSON, in bytes: one screen of conditions. Who needs more needs a receiver that looks.
pub const CONDITION: usize = 16 << 10;
/// Filters in one `match`; each member of an `exact`, `prefix` or `suffix` is one. Candidates pay for every one of them.
pub const CONDITION_FILTERS: usize = 50;
/// How deep filters nest in `all`, `any` and `not`; people do not read deeper ones.
pub const CONDITION_DEPTH: usize = 8;
/// Bytes of one name or value in a filter; half of the longest `subject`.
pub const CONDITION_VALUE: usize = 1 << 10;
/// Bytes of a `cel` expression: a few lines. What an event costs grows with it.
pub const EXPRESSION: usize = 1 << 10;
/// How deep a `cel` expression nests, each operator of a chain being one level (but for `&&` and `||`); bounds the stack.
pub const EXPRESSION_DEPTH: usize = 16;
/// `+` and `in` in a `cel` expression: each `+` may copy the strings before it, each `in` walk a list of the data, so
/// many would cost a second where the data is large.
pub const EXPRESSION_COSTLY: usize = 8;
/// Stack for parsing one `cel` expression in bytes: twice what the deepest takes in an unoptimised build.
pub const EXPRESSION_STACK: usize = 8 << 20;

/// How often a running replay gets its turn.
pub const REPLAY_EVERY: Duration = Duration::from_millis(100);
/// Deliveries a second that a replay makes where it does not say.
pub const REPLAY_RATE: f64 = 100.0;
/// Events that a replay looks at in one turn: a few milliseconds of reading.
pub const REPLAY_CHUNK: usize = 500;
/// Deliveries pending for a subscription above which its replay waits: so many a live event may find before it.
pub const REPLAY_PENDING: usize = 200;
/// Replays that run at once.
pub const REPLAYS: usize = 100;

/// Events that the catalogue counts in one round: some milliseconds of reading, and of the writer's time at worst.
pub const CATALOGUE_PAGE: usize = 2_000;
/// How often it has a round while events come; what people read may be that old.
pub const CATALOGUE_EVERY: Duration = Duration::from_secs(1);
/// Pause between two rounds where it is behind: it catches up with 40,000 events a second, and costs little.
pub const CATALOGUE_PAUSE: Duration = Duration::from_millis(50);
/// Events of one type and tenant that it looks into in one round; more of them look the same.
pub const CATALOGUE_LOOKED: usize = 10;
/// Events that it looks into in one round, and their bytes.
pub const CATALOGUE_LOOKED_ALL: usize = 100;
/// See [`CATALOGUE_LOOKED_ALL`].
pub const CATALOGUE_BYTES: usize = 1 << 20;
/// Bytes of data that it looks into: a millisecond or two, during which the thread does nothing else. Larger ones are counted.
pub const CATALOGUE_DATA: usize = 128 << 10;
/// Values in such data, for the same reason.
pub const CATALOGUE_VALUES: usize = 10_000;
/// Event types that it knows: more than anybody reads. Those longest unseen are forgotten.
pub const CATALOGUE_TYPES: usize = 1_000;
/// The same of all tenants, each of which has rows of its own; a few kilobytes each.
pub const CATALOGUE_OF_TENANTS: usize = 10_000;
/// How deep it describes data; what is below may be anything.
pub const CATALOGUE_DEPTH: usize = 12;
/// Places in the data of one type that it describes: an order with all its lines, addresses and payments has 500.
pub const CATALOGUE_PLACES: usize = 600;
/// Members of one object until their names are taken for data; the widest tables have fewer columns.
pub const CATALOGUE_MEMBERS: usize = 200;
/// Bytes of a member's name; a longer one is data.
pub const CATALOGUE_KEY: usize = 64;
/// Bytes of a word that may be one of an enumeration.
pub const CATALOGUE_WORD: usize = 32;
/// Bytes of a masked sample: a few screens.
pub const CATALOGUE_SAMPLE: usize = 16 << 10;
/// Changes that one event tells of; who sees so many reads the schema.
pub const CATALOGUE_CHANGES: usize = 20;
/// Event types in one page of a list, each with its schema.
pub const CATALOGUE_ROWS: usize = 200;

/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 3600);
/// Characters of an `Idempotency-Key`; a UUID has 36.
pub const IDEMPOTENCY_KEY: usize = 255;
/// Bearer tokens kept beside those of the settings.
pub const TOKENS: usize = 1_000;
/// One `ce-…` header in bytes, name and value; a longer attribute is left out.
pub const CE_HEADER: usize = 2 << 10;
/// All `ce-…` headers of a delivery in bytes, but for the four that CloudEvents requires: servers commonly take 8 KiB of
/// headers in all, and those have room for ours then.
pub const CE_HEADERS: usize = 4 << 10;
/// Source of a template in bytes: a page and more of JSON, and it fits an API request with the rest of a subscription.
pub const TEMPLATE_SOURCE: usize = 16 << 10;
/// Bytes of data and extension attributes that a template takes; each of its steps may look at all of them.
pub const TEMPLATE_EVENT: usize = 256 << 10;
/// A template's steps, and its memory in units of 64 bytes: a loop over a thousand items, and 1.25 MiB of text. The worst
/// that [`TEMPLATE_EVENT`] and this allow together is a moment of one core.
pub const TEMPLATE_FUEL: u64 = 20_000;
/// Words and signs between two braces; the compiler takes stack for each, and gives no error but ends the process.
pub const TEMPLATE_TAG: usize = 500;
/// The word `elif` in a template, for the same reason.
pub const TEMPLATE_BRANCHES: usize = 100;
/// Loops and conditions within each other, and recursive loops; keeps the stack small.
pub const TEMPLATE_DEPTH: usize = 50;
/// The body that a template makes, in bytes.
pub const TEMPLATE_OUTPUT: usize = 256 << 10;
/// Characters of a section's text that Slack takes.
pub const SLACK_SECTION: usize = 3_000;
/// Characters of a message's `text` that Slack advises; longer ones it may cut.
pub const SLACK_TEXT: usize = 4_000;

/// Rows of one page where the caller names no `limit`, and at most.
pub const PAGE_DEFAULT: usize = 50;
/// See [`PAGE_DEFAULT`].
pub const PAGE_MAX: usize = 500;

/// Attempts under way for one subscription. One failing receiver holds one (the worker narrows it), a healthy one
/// has enough to hide 3 ms of round trip at 10,000 a second.
pub const IN_FLIGHT: usize = 32;
/// Attempts under way in all; each holds a socket and one event's data.
pub const ATTEMPTS: usize = 4_096;
/// Bytes of events under way to receivers, over all attempts; above it nothing more is claimed.
pub const BYTES_IN_FLIGHT: usize = 256 << 20;
/// Deliveries of one subscription claimed ahead of their turn: what a fast receiver takes in some tenths of a second, and a
/// slow one (32 at once, half a second each) just within the lease.
pub const AHEAD: usize = 2_048;
/// Bytes of all events claimed ahead.
pub const AHEAD_BYTES: usize = 32 << 20;
/// Claims under way at once: each may bring a few megabytes more than [`BYTES_IN_FLIGHT`] allows.
pub const CLAIMS: usize = 16;
/// Longest pause of a whole lane because its receiver asked for one.
pub const LANE_PAUSE: Duration = Duration::from_secs(3600);
/// One attempt as a whole, and its connect phase (Standard Webhooks: 15–30 s).
pub const ATTEMPT: Duration = Duration::from_secs(15);
/// See [`ATTEMPT`].
pub const CONNECT: Duration = Duration::from_secs(5);
/// A lease outlasts the attempt's deadline, the commit behind it and a pause of the process.
pub const LEASE: Duration = Duration::from_secs(60);
/// Bytes of a receiver's answer that are kept with the attempt; more is not even read.
pub const ANSWER_KEPT: usize = 4 << 10;
/// Bytes of an answer read so that the connection can be used again; a longer one is closed.
pub const ANSWER_READ: usize = 64 << 10;
/// Buffer for the head of a receiver's answer in bytes, and the number of headers in it.
pub const ANSWER_HEAD: usize = 16 << 10;
/// See [`ANSWER_HEAD`].
pub const ANSWER_HEADERS: usize = 64;
/// Addresses of one name that are tried; nobody needs more, and each takes its share of the connect time.
pub const ADDRESSES: usize = 16;
/// Longest `Retry-After` that is obeyed; a receiver must not be able to park its deliveries for ever.
pub const RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long every attempt of a subscription fails before it is turned off (design §3).
pub const FAILING: Duration = Duration::from_secs(5 * 24 * 3600);
/// Attempts in a retry policy.
pub const RETRY_STEPS: usize = 50;

/// Headers that one subscription adds to its deliveries; the largest servers take about a hundred in all.
pub const CUSTOM_HEADERS: usize = 20;
/// Bytes of such a header's name, and of its value: together they stay below the 8 KiB that most servers take of a line.
pub const CUSTOM_HEADER_NAME: usize = 100;
/// See [`CUSTOM_HEADER_NAME`].
pub const CUSTOM_HEADER_VALUE: usize = 2_048;
/// Bytes of a username, password, client id, client secret or scope.
pub const CREDENTIAL: usize = 1_024;
/// Bytes of a fixed bearer token: the longest JSON Web Tokens that fit into a header everywhere.
pub const BEARER_TOKEN: usize = 4_096;
/// Bytes of a certificate chain or a private key in PEM; three certificates and a key of RSA 8192 fit.
pub const PEM: usize = 16 << 10;
/// Certificates in a chain; TLS libraries follow about as many.
pub const CERTIFICATE_CHAIN: usize = 10;
/// Fetching an access token as a whole: it shares the time of the attempt that needs it.
pub const TOKEN_FETCH: Duration = Duration::from_secs(5);
/// Bytes of a token endpoint's answer, and of the token in it, which has to fit into a header.
pub const TOKEN_ANSWER: usize = 64 << 10;
/// See [`TOKEN_ANSWER`].
pub const ACCESS_TOKEN: usize = 8 << 10;
/// How long before its end a token is given up; one that lives for less than twice that, at half its life.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// How long a token is used whose endpoint does not say how long it lives.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);
/// How long a token is used at most; an endpoint is not believed for ever.
pub const TOKEN_LIFE_MOST: Duration = Duration::from_secs(24 * 3600);
/// How long a failed fetch answers for all who want the token, so that they do not all ask one after another.
pub const TOKEN_PAUSE: Duration = Duration::from_secs(2);
/// Connections to receivers until all idle ones are let go; twice as many, until none is kept for a while. Each holds a
/// descriptor and up to 50 KiB for TLS; those of attempts under way come on top.
pub const KEPT_CONNECTIONS: usize = 2_048;
/// Idle ones kept to one host: as many as all together. Hundreds of subscriptions may share a host, and each connection that
/// is let go too early is one to be dialled again, with TLS.
pub const KEPT_PER_HOST: usize = KEPT_CONNECTIONS;
/// How long an idle one is kept.
pub const KEPT_IDLE: Duration = Duration::from_secs(30);
/// Client certificates that are kept ready for use.
pub const CLIENT_CERTIFICATES: usize = 1_024;

/// Subscriptions whose change had no certain end and that are to be read again; whoever makes more of them while the store
/// is down has to start the companion anew.
pub const DOUBTFUL: usize = 10_000;
/// Attempts recorded in one transaction: a few milliseconds of the writer's time.
pub const RECORDS: usize = 256;
/// Store operations waiting for the writer; above it callers are told to come back (503).
pub const WRITER_QUEUE: usize = 8_192;
/// Store operations that share one commit.
pub const COMMIT_GROUP: usize = 512;
/// Connections of one process to a PostgreSQL server: what claims, records and accepts at the same time, with room for ten
/// processes below the 100 that a server commonly has.
pub const POSTGRES_CONNECTIONS: usize = 9;
/// How long an operation waits for one of them, and for a new one to be made.
pub const POSTGRES_WAIT: Duration = Duration::from_secs(5);
/// When a subscription is looked at again whose `max_in_flight` other processes have used up: they do not tell when one of
/// their attempts has ended.
pub const CAP_PAUSE: Duration = Duration::from_secs(1);
/// Signals of other processes that wait to be looked at; when more come, all is looked at.
pub const SIGNALS: usize = 1_000;
/// Deliveries cancelled in one transaction when a subscription goes off.
pub const CANCEL_CHUNK: usize = 1_000;
/// How often the sweep looks for leases that ran out and wake-ups that were lost.
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often what is older than the retention time is looked for; in days it makes no difference.
pub const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Events looked at and deliveries removed in one transaction of pruning: a few milliseconds of the writer's time.
pub const PRUNE_CHUNK: usize = 100;
/// Shortest retention: a repeat is recognised only while its event is kept, and a filter may repeat after an outage.
pub const RETENTION_LEAST: Duration = Duration::from_secs(3600);
/// Longest retention in days, ten years: who wants more wants an archive, not a delivery service.
pub const RETENTION_MOST_DAYS: u64 = 3_650;
/// Lines of the audit log that are kept: years of an administrator's work.
pub const AUDIT_LINES: u64 = 100_000;
/// Events looked at in one step of an erasure: some milliseconds of reading.
pub const ERASE_WINDOW: usize = 1_000;
/// Events and deliveries removed in one transaction of an erasure, as in pruning.
pub const ERASE_CHUNK: usize = 100;
/// Bytes of events removed in one transaction of an erasure; they are written over, so they cost as much as accepting.
pub const ERASE_BYTES: u64 = 1 << 20;
/// How often the clock is looked at for having gone back: what is due waits that much longer.
pub const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How far the clock may go back unnoticed: above what daemons correct by slewing, below what anybody would miss.
pub const CLOCK_SLEW: Duration = Duration::from_secs(1);
/// Deliveries brought back in one transaction after the clock went back.
pub const SHIFT_CHUNK: usize = 1_000;
/// No delivery is due later than this: the longest step of a policy, 30 days, with the most jitter, one half.
pub const DUE_FARTHEST: Duration = Duration::from_secs(45 * 24 * 3600);
/// How often free space is asked for: the disk cannot fill much faster than ingest may write in that time.
pub const DISK_EVERY: Duration = Duration::from_secs(1);
/// Faults of one kind that `gatehook integrity` names; who has more needs the kind, not the list.
pub const FAULTS: usize = 100;
/// How long a stopping process waits for attempts under way: the whole of one attempt and its record.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Connections open to the API at once; above it the most useless one makes room for a new one. A quarter of the process's
/// file descriptors, where that is less: the others are for deliveries.
pub const CONNECTIONS: usize = 4_096;
/// How long an idle connection to the API is kept; HTTP/1.1 ones have the time for a request's head.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Requests under way on one HTTP/2 connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// Time for a client to send a request's head, the first one included; a slow one is closed.
pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// Bytes of a request's head: more than any proxy lets through, and all connections together hold 256 MiB at most.
pub const REQUEST_HEAD_BYTES: usize = 64 << 10;
/// Time for a client to send a request's body.
pub const REQUEST_BODY: Duration = Duration::from_secs(30);

/// Messages of a queue taken up at once: one claim in the database for all of them.
pub const CALLS: usize = 200;
/// Messages of a queue that a process holds unsettled: what its receivers take in some tenths of a second. More would keep
/// from others what they could send.
pub const CALLS_HELD: usize = 1_000;
/// Ids that wait to be sent to a queue; while it is away more are left to the sweep.
pub const CALLS_WAITING: usize = 10_000;
/// How often a process on a shared store asks for its version and its clock; it is told of changes at once, unless the
/// message gets lost.
pub const VERSION_EVERY: Duration = Duration::from_secs(2);
/// Times that events are matched anew because the subscriptions have changed meanwhile.
pub const MATCHINGS: usize = 20;
/// Bytes of an id in a queue's message; ours have 36.
pub const CALL_ID: usize = 64;
/// Ids that are published to RabbitMQ before their confirms are awaited: enough to hide the way there and back.
pub const CALLS_PUBLISHED: usize = 500;
/// Time to connect to a queue's server, its handshake included.
pub const QUEUE_CONNECT: Duration = Duration::from_secs(10);
/// Time for the answer of a queue's server: the confirms of a batch, or a request to SQS.
pub const QUEUE_ANSWER: Duration = Duration::from_secs(30);
/// Seconds within which RabbitMQ and we show each other that we are there; twice as much, and the connection is given up.
pub const QUEUE_HEARTBEAT: u16 = 10;
/// First pause before a queue's server is tried again; it doubles up to [`QUEUE_PAUSE_MOST`].
pub const QUEUE_PAUSE: Duration = Duration::from_millis(500);
/// See [`QUEUE_PAUSE`]: what a server that comes back waits for at most.
pub const QUEUE_PAUSE_MOST: Duration = Duration::from_secs(10);
/// Time for a stopping process to send and settle what it has; the sweep finds the rest.
pub const QUEUE_CLOSE: Duration = Duration::from_secs(5);
/// Characters of a queue's name in RabbitMQ, which takes 255 bytes.
pub const QUEUE_NAME: usize = 200;
/// Ids in one message of SQS, where many wait: a request costs the same, and what dies with them is claimed again for nothing.
pub const CALLS_PER_MESSAGE: usize = 20;
/// Messages in one request to SQS; its own bound.
pub const SQS_BATCH: usize = 10;
/// Requests of one kind to SQS at the same time: all calls that are held come in so many.
pub const SQS_REQUESTS: usize = CALLS_HELD / (CALLS_PER_MESSAGE * SQS_BATCH);
/// How long SQS waits for a message before it answers that there is none; its own bound.
pub const SQS_POLL: Duration = Duration::from_secs(20);
/// How long a settled message waits for others to be deleted with; it stays hidden all the while.
pub const SQS_LINGER: Duration = Duration::from_millis(200);
/// How often it is looked for messages that would soon be shown to others.
pub const SQS_EXTEND_EVERY: Duration = Duration::from_secs(10);
/// Rows that a move of a store copies or compares at once, and their bytes.
pub const MOVE_ROWS: usize = 2_000;
/// See [`MOVE_ROWS`].
pub const MOVE_BYTES: usize = 8 << 20;
/// How long a process leads without asking again: what only one should do waits that long where it has ended.
pub const LEADS: Duration = Duration::from_secs(15);
/// How long a stopping process takes at most, whatever a server does that it waits for.
pub const STOP: Duration = Duration::from_secs(30);
/// Time for PostgreSQL to answer a statement: longer than the server's own limit, so that it is the one to say so while it
/// is there.
pub const POSTGRES_ANSWER: Duration = Duration::from_secs(35);
/// Bytes of events that one claim takes into memory; the rest waits for the next.
pub const CLAIM_BYTES: usize = 4 << 20;
/// Time until something is tried again that the store did not do.
pub const STORE_PAUSE: Duration = Duration::from_secs(1);
