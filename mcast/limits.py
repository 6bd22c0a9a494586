"""mcast's bounds and timings, with units and reasons; what concerns one module alone may stand there.

Relations between them are asserted at import. Anything that arrives from a socket, a file or a flag meets one of
these before it is parsed or stored.
"""

from __future__ import annotations

from typing import Final

# Numbers and names
SEQ_MAX: Final = 2**63 - 1  # events; u64 on the wire, but never wraps: a century at 10^9/s
EPOCH_MAX: Final = 2**62  # epochs; a hostile epoch must leave room for honest ones above it
EPOCH_JUMP_MAX: Final = 1 << 16  # epochs that others' words raise a promise by at once: forged ones may be far ahead
EPOCH_JUMP_S: Final = 0.1  # seconds until they may do so again: then no forger gets near the last one in any lifetime
NAME_BYTES_MAX: Final = 64  # a node id, cluster name or host name, in UTF-8
NODES_MAX: Final = 64  # nodes in one config: the heartbeat's table must fit one datagram
MEMBERS_MAX: Final = 15  # voters; more only slows the quorum
CONFIG_BYTES_MAX: Final = 1 << 20  # bytes of a cluster file; 64 nodes need a hundredth of it

# Datagrams
MTU_MIN: Final = 576  # bytes; the least every IPv4 host must take (RFC 791)
MTU_MAX: Final = 61_440  # bytes; one UDP datagram on loopback, minus slack for headers
IP_UDP_BYTES: Final = 48  # bytes of IPv6 + UDP header; IPv4 needs 20 fewer
SEAL_TAG_BYTES: Final = 16  # AES-GCM tag, or the checksum when unsealed
FRAME_BODY_BYTES_MAX: Final = 65_535  # bytes; no datagram carries more
GSO_SEGMENTS_MAX: Final = 60  # segments of one UDP_SEGMENT send; the kernel stops at 64
GSO_BYTES_MAX: Final = 61_440  # bytes of one UDP_SEGMENT send; the kernel stops at 65,507
RECEIVE_BUFFER_BYTES: Final = 16 << 20  # bytes asked of SO_RCVBUF; absorbs a scheduling pause at full rate

# Commands
COMMAND_BYTES_MAX: Final = 4 << 20  # bytes of one packed command; larger ones are the application's to split
ARITY_MAX: Final = 32  # arguments of one command
COMMAND_VALUES_MAX: Final = 65_536  # values of a command that gateways take, or as configured; unpacked 5 MiB
COMMAND_VALUES_MIN: Final = 1_024  # configured at least: a machine's ordinary commands must pass
QUERY_VALUES_MAX: Final = 65_536  # values in a query's arguments, and of a machine's names and arities
VALUES_MAX: Final = 1 << 20  # ... that replicas unpack, all alike, and of an answer; part of the format
COMMAND_DEPTH_MAX: Final = 64  # levels of nesting; deeper ones could exhaust the stack of every replica at once
OUTCOMES_BYTES_MAX: Final = COMMAND_BYTES_MAX  # bytes of one record's packed outcomes; values beyond are "failed"
REJECTION_CHARS_MAX: Final = 1_024  # characters kept of a rejection's text
TCP_MESSAGE_BYTES_MAX: Final = COMMAND_BYTES_MAX + (1 << 20)  # bytes; a whole fragmented command and its headers
ALIKE_EVENTS_MAX: Final = 65_536  # commands that one result may speak for
RUN_BYTES_MAX: Final = 64 << 10  # bytes of a TCP message that carries several groups or results
SESSION_PENDING_RECORDS_MAX: Final = 2_048  # unanswered records of one session; the client stops there
SESSION_KEPT_RECORDS_MAX: Final = 4_096  # records whose outcomes are kept per session; clients learn late what is free
SESSION_KEPT_BYTES_MAX: Final = 8 << 20  # bytes of kept outcomes per session; then the oldest are dropped
SESSIONS_MAX: Final = 100_000  # sessions in the replicated table; then OPEN is refused
SESSIONS_KEPT_BYTES_MAX: Final = 256 << 20  # bytes of kept outcomes of all sessions; beyond, each gets its equal share
SESSIONS_CONTENT_BYTES_MAX: Final = 16 << 20  # bytes of records that sessions refer to before they are marked
ADDRESS_SESSIONS_MAX: Final = 12_500  # of them that one node lets one address open, or its share of those left ...
ADDRESS_SESSIONS_MIN: Final = 16  # ... but as many as this always: the table itself judges those
SESSION_UNUSED_S: Final = 10.0  # seconds of sequencer time after which one without a command makes room for others
SESSION_IDLE_S: Final = 600.0  # seconds of sequencer time after which a session may be evicted

# Stream and repair
HEARTBEAT_MAX_S: Final = 0.050  # longest silence of a sequencer; also the longest a lost tail goes unnoticed
HEARTBEAT_MIN_S: Final = 0.001  # first heartbeat after data stops; doubles up to the longest
GAP_LATER_FRAMES: Final = 2  # later datagrams that prove a gap: one alone may only be reordered
GAP_DECLARED_S: Final = 0.002  # ... or this long after the first later one, when traffic stops
NAK_DELAY_S: Final = 0.001  # before the first NAK, so that one asks for a whole episode
NAK_DELAY_MAX_S: Final = 0.010  # where reordering keeps proving NAKs needless
NAK_JITTER: Final = 0.5  # share of a delay added at random: replicas that lost the same must not ask in step
NAK_CALM: Final = 64  # gaps repaired without a needless NAK before the delay halves
NAK_RETRY_MIN_S: Final = 0.005  # a busy repairer needs some ms, and ignores what it was asked a moment ago
NAK_RETRY_MAX_S: Final = 0.160  # so that the backed-off still ask some times a second
NAK_RETRY_GROWTH: Final = 1.5  # from one retry of a gap to the next: the overloaded must be asked less often
NAK_RETRY_ROUND_TRIPS: Final = 4.0  # waited for at least: a slow answer is not a lost one
NAK_JOIN_S: Final = 0.001  # a retry due within this goes along with a NAK that is sent anyway
NAK_RANGES_MAX: Final = 64  # ranges in one NAK; more would outgrow a 1,500-byte MTU
NAK_INTERVAL_S: Final = 0.001  # at most one NAK datagram a ms per replica
NAK_SEQUENCER_TRIES: Final = 2  # then a random replica that has it: the tail outlives its sequencer
REPAIR_REPEAT_S: Final = 0.004  # a repairer ignores the same request for this long
REPAIR_SHARED_S: Final = 0.002  # two requesters within this make a repair go by multicast
REPAIR_FLOOR_PER_S: Final = 2_000.0  # datagrams/s the repair budget never falls below
REPAIR_SHARE: Final = 0.5  # of the peak rate of new datagrams: the repair budget
REPAIR_REQUESTER_SHARE: Final = 0.5  # of that budget, for any one replica: the others are not to starve
REPAIR_PEAK_WINDOW_S: Final = 5.0  # of which the peak is taken: repairs follow the burst that lost them
REPAIRS_PER_NAK_MAX: Final = 2_048  # datagrams answered to one NAK; bounds amplification
DEEP_GAP_FRAMES: Final = 2_048  # datagrams behind which a replica goes to TCP catch-up
REORDER_BYTES_MAX: Final = 12 << 20  # bytes of frames buffered beyond a gap
REORDER_FRAMES_MAX: Final = 16_384  # and their number: small ones cost more memory than their bytes
CACHE_BYTES_MAX: Final = 16 << 20  # bytes of recent frames kept in memory for repair; with more every event costs more
LEDGER_CLOSED_MAX: Final = 1_000  # closed gaps remembered
LEDGER_RANGES_MAX: Final = 32_768  # of a kind: every second of the datagrams in a full receive buffer, 768 bytes each
LEDGER_OPEN_MAX: Final = 4_096  # separate open gaps; beyond, the replica goes to catch-up
COUNTER_JUMP_MAX: Final = 1 << 40  # datagrams, days at any link's rate; a larger jump is a new baseline, not a loss

# Flow control
WINDOW_BYTES: Final = 2 << 20  # bytes numbered beyond what a majority has acknowledged
WINDOW_BYTES_MIN: Final = 128 << 10  # a tiny receive buffer still gets this much
PENDING_BYTES_MAX: Final = 8 << 20  # bytes of records waiting to be numbered; beyond, gateways stop reading

# Agreement
ELECTION_TIMEOUT_S: Final = (0.5, 1.0)  # silence before a pre-vote, drawn anew each time
HEARTBEAT_FAST_S: Final = 0.020  # profile "fast": for quiet machines and networks
ELECTION_TIMEOUT_FAST_S: Final = (0.15, 0.3)  # as there: several of its heartbeats
ELECTION_RETRY_S: Final = (0.010, 0.030)  # times 2^k after a failed round
ELECTION_RETRY_DOUBLINGS_MAX: Final = 5  # then it is about an election timeout
VOTE_CALLS_MAX: Final = 3  # times a candidate asks for votes in one epoch, before it asks for pre-votes for the next
BOOTSTRAP_RETRY_S: Final = 0.100  # between the founder's calls
HISTORY_ENTRIES_MAX: Final = 4_096  # epochs in one heartbeat; a datagram holds fewer
HISTORY_PAGE_ENTRIES: Final = 8_192  # epochs in one page fetched over TCP: 256 KiB, and some ms to pack
HEARTBEAT_HISTORY: Final = 8  # newest epochs carried by each heartbeat
HELD_DATAGRAMS_MAX: Final = 1_024  # held while a higher promise becomes durable
PEER_DIED_RANK_S: Final = 0.005  # a candidate that saw it die waits this long for each better one
READ_RETRY_S: Final = 0.005  # a read index, or the round that proves it, is asked for anew after this long
READS_WAITING_MAX: Final = 10_000  # reads waiting for an index at one node; beyond, they are refused
LOG_POSITIONS_RETRY_S: Final = 0.050  # a read's question where logs end, which no majority answered
LOG_POSITIONS_AGAIN_S: Final = 0.200  # between two such questions, which must find the same
SUSPECT_ASK_S: Final = 0.025  # a suspect repeats its question where logs end ...
SUSPECT_ASKS: Final = 4  # ... so often, for every member's answer is needed; time to answer on busy machines too
CAUTION_S: Final = 10.0  # after a start, for which a voter prefers the best log of those who answer ...
CAUTION_ASK_S: Final = 0.100  # ... and between its questions: two of them before anybody's silence can end
HANDOVER_S: Final = 1.0  # for the chosen successor to catch up; then the sequencer goes on
STALE_INTERVAL_S: Final = 0.010  # between STALE answers to one sender

# Reach
SEEK_UNICAST_HEARTBEATS: Final = 4.0  # without an answer, until a replica is sent heartbeats by unicast too ...
SEEK_TCP_HEARTBEATS: Final = 2.0  # ... and so many later over TCP: before its silence lasts an election timeout
SEEK_LATELY_S: Final = 5.0  # without any answer a replica is likely dead ...
SEEK_EVERY_S: Final = 0.2  # ... and sent heartbeats no more often than this
RELAY_S: Final = 1.0  # whoever was heard over TCP is answered over TCP for so long
CALLS_MULTICAST: Final = 2  # times a question goes out by multicast alone; then by unicast, too ...
CALLS_DATAGRAMS: Final = 3  # ... and after so many over TCP
GAP_STUCK_S: Final = 0.75  # a gap that NAKs do not close goes to TCP: well within a second
GAP_STUCK_AGAIN_S: Final = 0.05  # the same where that happened a moment ago ...
GAP_STUCK_MEMORY_S: Final = 60.0  # ... which is this long
LEARNED_S: Final = 0.05  # for what is known to be committed to arrive by itself, before it is fetched
ISOLATED_S: Final = 1.0  # out of touch with a majority for so long, or for two election timeouts: isolated
RELAYED_BYTES_MAX: Final = 65_536  # bytes of a datagram that came over TCP; UDP carries no more either
KNOCK_S: Final = 1.0  # between two questions of an isolated node to all others, over TCP

# Seal
KEYS_MAX: Final = 4  # keys in one ring: a rotation needs two, and each may cost a trial on a foreign datagram
KEY_FILE_BYTES_MAX: Final = 4_096  # bytes; KEYS_MAX keys need a tenth, the rest is for comments
INCARNATIONS_OPENED_MAX: Final = 4  # per sender, incarnations whose cipher is kept; replays must not grow memory
INCARNATIONS_RETIRED_MAX: Final = 8  # per sender, replaced incarnations refused without asking
CANDIDATES_MAX: Final = 4  # per sender, incarnations held while unproven
UNPROVEN_DATAGRAMS_MAX: Final = 512  # per sender, held until its incarnation is proven
UNPROVEN_BYTES_MAX: Final = 256 << 10  # bytes of them: jumbo frames must not hold more
UNPROVEN_S: Final = 2.0  # seconds after its last datagram that an unproven incarnation is forgotten
CHALLENGE_RETRY_MIN_S: Final = 0.010  # between challenges to one sender, so that replays can't make a flood of them
CHALLENGE_RETRY_MAX_S: Final = 0.160  # reached by doubling; a dead node's replayed datagrams cost no more than this
PROOF_INTERVAL_S: Final = 0.001  # between proofs to an unproven sender: a replayed challenge must not amplify
RETIRED_QUIET_S: Final = 1.0  # silence of the live incarnation after which even a replaced one may prove itself
DUPLICATE_ID_ASK_S: Final = 1.0  # between two questions whether another process runs under this node's id
DUPLICATE_ID_ANSWER_S: Final = 0.010  # between two answers to such a question
DUPLICATE_ID_START_S: Final = 0.015  # a starting node waits this long for an answer, DUPLICATE_ID_STARTS times
DUPLICATE_ID_STARTS: Final = 3  # one lost datagram must not let a duplicate start
REPLAY_WINDOW: Final = 4_096  # datagrams of one channel that may arrive out of order; older ones count as replayed

# Clocks
CLOCK_OFF_S: Final = 2.0  # seconds between clocks, or a clock and the log, that are said: NTP keeps milliseconds

# Connections
CONNECTIONS_MAX: Final = 12_288  # clients connected to one node: ten thousand idle ones and slack
CONNECTIONS_SPARE: Final = 2 * NODES_MAX  # more of them for peers, and for those who have not introduced themselves
DESCRIPTORS_OWN: Final = 384  # open files of a node besides connections: journal, sockets, those of its program
DESCRIPTORS_OWN_MIN: Final = 48  # ... where a process may open few: what the journal and the sockets need
ACCEPTS_PER_TURN: Final = 8  # connections let in in one turn of the loop: heartbeats must go out between
CONNECTION_SESSIONS_MAX: Final = 64  # sessions of one connection: an honest client has one at a time
HANDSHAKE_S: Final = 5.0  # from accept to a whole HELLO; a port scanner holds a connection no longer
GATEWAY_CLIENT_BYTES: Final = 8 << 20  # unanswered bytes of one client; beyond, its socket is read no more
GATEWAY_BYTES: Final = 64 << 20  # unanswered bytes of all clients of one gateway; beyond, none submits
GATEWAY_WRITE_BYTES: Final = 16 << 20  # unread answers of one connection; beyond, it is dropped
GATEWAY_READS_WAITING: Final = 8_192  # queries that wait for an event at one node; beyond, they are refused
FETCH_CHUNK_BYTES: Final = 256 << 10  # journalled frames read between two turns of the event loop
FETCH_WINDOW_BYTES: Final = 4 << 20  # bytes of frames asked for at a time in a catch-up

# Subscriptions
EVENTS_CHUNK_BYTES: Final = 256 << 10  # bytes of frames sent to a subscriber at a time; the next when they have left
EVENTS_PIECE_BYTES: Final = 1 << 20  # bytes of events whose outcomes go to disk with one write
EVENTS_RECENT_BYTES: Final = 4 << 20  # bytes of the newest events kept in memory for those who read as it happens
EVENTS_UNREAD_BYTES: Final = 1 << 20  # bytes a client keeps of what its program has not taken yet

# Scenarios
SCENARIO_NODES_MAX: Final = 16  # nodes of one scenario, all on one machine
SCENARIO_CLIENTS_MAX: Final = 1_000  # clients, all in one process
SCENARIO_COMMANDS_MAX: Final = 1_000_000  # commands; each is kept until it has been found in every replica's log
SCENARIO_SECONDS_MAX: Final = 86_400.0  # a day: longer is a slip of the unit
SCENARIO_DELAY_MS_MAX: Final = 10_000.0  # of a datagram; later ones are as good as lost
SCENARIO_RECOVERY_S_MAX: Final = 600.0  # waited for after the last fault; what takes longer is a finding

# Calls
TIMEOUT_S: Final = 5.0  # default deadline of a client's call
TIMEOUT_MAX_S: Final = 86_400.0  # longest deadline a call may ask for
SESSION_READ_WAIT_S: Final = 0.250  # how long a query waits for its event before NotYet, or for a proof of its age
BOUNDED_HEARTBEATS: Final = 3.0  # default max_ms of a bounded query, in longest heartbeat intervals
READ_MARGIN: Final = 0.1  # share of a query's time that a node keeps, so that its refusal comes before the deadline

assert EPOCH_MAX / EPOCH_JUMP_MAX * EPOCH_JUMP_S > 100_000 * 31_557_600, "forged epochs come to no end"
assert REPAIR_REPEAT_S <= NAK_RETRY_MIN_S - NAK_JOIN_S, "a repairer must not ignore an honest retry"
assert NAK_DELAY_S * (1 + NAK_JITTER) < NAK_RETRY_MIN_S, "a retry must not overtake the first NAK"
assert 2 * HEARTBEAT_MAX_S < ELECTION_TIMEOUT_S[0], "one lost heartbeat must not look like a death"
assert 2 * HEARTBEAT_FAST_S < ELECTION_TIMEOUT_FAST_S[0]
assert (SEEK_UNICAST_HEARTBEATS + SEEK_TCP_HEARTBEATS) * HEARTBEAT_MAX_S < ELECTION_TIMEOUT_S[0]
assert (SEEK_UNICAST_HEARTBEATS + SEEK_TCP_HEARTBEATS) * HEARTBEAT_FAST_S < ELECTION_TIMEOUT_FAST_S[0]
assert 2 * SESSION_PENDING_RECORDS_MAX <= SESSION_KEPT_RECORDS_MAX, "no outcome is dropped that a client waits for"
assert CONNECTIONS_MAX <= ADDRESS_SESSIONS_MAX <= SESSIONS_MAX // 8, "all clients of a node may be of one machine"
assert SESSION_PENDING_RECORDS_MAX * 1_024 < SESSION_KEPT_BYTES_MAX
assert WINDOW_BYTES < REORDER_BYTES_MAX <= CACHE_BYTES_MAX * 3 // 4, "what fits behind a gap is in others' memory"
assert MTU_MAX < FRAME_BODY_BYTES_MAX
assert COMMAND_VALUES_MIN < FRAME_BODY_BYTES_MAX < COMMAND_VALUES_MAX <= VALUES_MAX, "few values, few bytes"
assert COMMAND_BYTES_MAX < TCP_MESSAGE_BYTES_MAX
assert EVENTS_CHUNK_BYTES <= EVENTS_PIECE_BYTES < EVENTS_RECENT_BYTES, "what is not on disk yet is in memory"
assert GATEWAY_WRITE_BYTES > 2 * TCP_MESSAGE_BYTES_MAX, "one whole answer must fit while another leaves"
