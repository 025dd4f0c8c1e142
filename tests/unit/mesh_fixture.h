// A small mesh for tests: an authority, members with keys, certificates and sealed sectors, and a
// genesis of them. Made once for a test program.
#ifndef MESH_FIXTURE_H
#define MESH_FIXTURE_H

#include "mesh/genesis.h"
#include "mesh/proof_space.h"
#include "ok.h"
#include "trustchain/trustchain.h"

#define FIXTURE_MEMBERS 4

typedef struct mesh_fixture {
    char dir[64]; // temporary, removed by mesh_fixture_free()
    tc_authority *authority;
    hm_key *keys[FIXTURE_MEMBERS];
    hm_node_id ids[FIXTURE_MEMBERS];
    hm_buf chains[FIXTURE_MEMBERS]; // PEM
    hm_space_sector *sectors[FIXTURE_MEMBERS];
    tc_issued issued[FIXTURE_MEMBERS];
    hm_buf genesis; // canonical bytes
    hm_hash chain_id;
    uint64_t time_ms; // of the genesis
} mesh_fixture;

// What tests with running nodes choose; zero is the default.
typedef struct mesh_fixture_options {
    uint64_t now_ms;                 // of the certificates; the genesis is a second later
    uint16_t ports[FIXTURE_MEMBERS]; // at ::1
    uint64_t stakes[FIXTURE_MEMBERS];
    uint32_t chunk_bytes;
    uint32_t epoch_blocks, beacon_blocks;
} mesh_fixture_options;

// Both abort the program on failure.
void mesh_fixture_make(mesh_fixture *f);
void mesh_fixture_make_for(mesh_fixture *f, const mesh_fixture_options *o);
void mesh_fixture_free(mesh_fixture *f);

// What an issuing certificate under the mesh root is like; zero is what makes a good one, which
// lives a day longer than the fixture's own.
typedef struct fixture_issuing {
    uint64_t now_ms; // 0 = the genesis' time
    const char *cn;
    uint32_t days;
    int path_len;
    const char *key_usage;
    const char *constraints; // in OpenSSL's words; "" = none
} fixture_issuing;
// Another authority in a directory of this name, whose issuing key has such a certificate. Abort on
// failure; close it with tc_authority_close().
void mesh_fixture_authority(const mesh_fixture *f, const char *name, const fixture_issuing *i,
                            tc_authority **out, hm_buf *issuing_der);
// Another certificate for its key, appended. key: mesh-ca.key or edge-ca.key.
void mesh_fixture_issuing(const mesh_fixture *f, const char *name, const char *key,
                          const fixture_issuing *i, hm_buf *issuing_der);

#endif
