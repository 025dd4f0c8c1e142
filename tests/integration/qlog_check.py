#!/usr/bin/env python3
"""Each record of the logs is JSON of the sequential form of qlog, with events that it knows; prints
how many there are of each kind over all files. qlog_check.py FILE..."""
import collections
import json
import re
import sys

EVENTS = {
    "connection_started": {"local", "remote"},
    "connection_closed": {"initiator", "trigger", "reason"},
    "version_information": {"chosen_version"},
    "alpn_information": {"chosen_alpn"},
    "parameters_set": set(),
    "packet_sent": {"header", "frames", "raw"},
    "packet_received": {"header", "frames", "raw"},
    "packet_dropped": {"header", "trigger"},
    "packet_lost": {"header", "trigger"},
    "recovery_metrics_updated": {"congestion_window", "bytes_in_flight"},
    "congestion_state_updated": {"new"},
    "key_updated": {"key_type", "trigger"},
    "mtu_updated": {"new"},
}
FRAMES = set("""padding ping ack reset_stream stop_sending crypto new_token stream max_data
    max_stream_data max_streams data_blocked stream_data_blocked streams_blocked new_connection_id
    retire_connection_id path_challenge path_response connection_close handshake_done immediate_ack ack_frequency
    datagram""".split())

counts = collections.Counter()
for path in sys.argv[1:]:
    text = open(path, encoding="ascii").read()
    assert text.startswith("\x1e") and text.endswith("\n"), path
    head, *records = [json.loads(r) for r in text.split("\x1e")[1:]]
    assert head["file_schema"] == "urn:ietf:params:qlog:file:sequential", head
    assert head["serialization_format"] == "application/qlog+json-seq", head
    trace = head["trace"]
    assert trace["vantage_point"]["type"] in ("client", "server"), trace
    assert re.fullmatch(r"[0-9a-f]{2,40}", trace["common_fields"]["group_id"]), trace
    before = 0
    for r in records:
        assert set(r) == {"time", "name", "data"} and r["time"] >= before, r
        before = r["time"]
        namespace, name = r["name"].split(":")
        assert namespace == "quic" and EVENTS[name] <= set(r["data"]), r
        for f in r["data"].get("frames", []):
            assert f["frame_type"] in FRAMES, r
        counts[name] += 1
    assert counts["connection_started"] >= 1
print(json.dumps(counts))
