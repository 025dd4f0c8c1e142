// A running node whose fellow members are the test: they have good keys and certificates, and say
// what the test has them say. One mesh at a time.
#ifndef NODE_FIXTURE_H
#define NODE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mesh/node_internal.h"
#include "mesh_fixture.h"

#define GUARD_US 200000000u // only to end a test that would wait for ever

// A member as the test plays it: it takes connections, and the node, being the first in the
// genesis, makes them.
typedef struct hostile {
    unsigned index;
    SSL_CTX *tls;
    stoq_endpoint *endpoint;
    stoq_stream *lanes[LANES];
    bool deaf;       // takes nothing off its streams
    unsigned closed; // lanes that were, so far
    hm_buf in[LANES], out[LANES];
    void (*heard)(struct hostile *h, const node_message *m);
} hostile;

extern mesh_fixture fx;
extern hostile others[FIXTURE_MEMBERS]; // from 1 on
extern uv_loop_t loop;
extern hm_node *node;
extern bool node_closed;

// Opens the node. own_stake: 0 = that of the others, who are not there yet; chunk_bytes: 0 = 4096.
void mesh_open(uint64_t own_stake, uint32_t chunk_bytes);
// Called with the node's directory before the node is opened; NULL.
extern void (*mesh_before_open)(const char *dir);
void mesh_close(void);
// For a node that the test itself closed with on_node_closed(), once node_closed.
void mesh_closed(void);
void on_node_closed(void *ctx);
// From here on the member answers.
void hostile_join(unsigned index);
bool is_up(unsigned index);
void say(hostile *h, node_lane lane, const node_message *m);

// The node and all others do what is due.
void turn(void);
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (uint64_t began_ = node_now_us(); !(condition); turn())                                \
            if (node_now_us() - began_ > GUARD_US)                                                 \
                fail_msg("never came true: %s", #condition);                                       \
    } while (0)

// ---- operations ---------------------------------------------------------------------------------

// An operation of a member as things stand.
void make_op(unsigned who, uint8_t kind, uint64_t nonce, hm_hash asset, hm_bytes payload,
             hm_buf *out);
void registration(const char *name, hm_buf *payload);
void send_op(hostile *h, const hm_buf *op);
// What was said before this is taken by the node when this turns true.
uint64_t mark(hostile *h);
bool marked(const hostile *h, uint64_t m);

typedef struct submitted {
    unsigned left;
    hm_err err;
    char detail[200];
    hm_hash id;
} submitted;

// Submits an operation on an asset to the node.
void submit(uint8_t kind, const hm_hash *asset, hm_bytes payload, submitted *s);

#endif
