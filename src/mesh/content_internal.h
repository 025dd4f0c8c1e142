// Private to content*.c.
#ifndef HM_MESH_CONTENT_INTERNAL_H
#define HM_MESH_CONTENT_INTERNAL_H

#include "mesh/content.h"
#include "base/env.h"

typedef enum content_job_kind {
    JOB_PUT,
    JOB_PUT_MANIFEST,
    JOB_KEEP,
    JOB_FOLLOWED,
    JOB_COLLECT,
    JOB_DISCARD, // if its bytes are not those of the hash
    JOB_DISCARD_MANIFEST,
} content_job_kind;

typedef struct content_job {
    hm_list link;
    content_job_kind kind;
    hm_hash hash; // KEEP: the root
    hm_buf bytes; // of a PUT
    uint32_t member;
    uint64_t time_ms;      // now; COLLECT: what is older goes
    uint64_t held_ms;      // COLLECT: what is older goes while a content is wanted
    uint64_t number;       // FOLLOWED
    hm_commitment content; // KEEP
} content_job;

// What one transaction did.
typedef struct content_done {
    int64_t chunks, bytes;
    int64_t uploads[HM_CONTENT_MEMBERS_MAX];
    uint64_t collected, collected_bytes;
    uint64_t followed;
    uint64_t oldest_ms; // of what no asset refers to; or less
    hm_err err;
    char detail[200];
} content_done;

typedef struct content_batch {
    hm_list jobs;
    hm_map by_address[2]; // hash -> job of a chunk, of a manifest
    uint64_t bytes;
    uint64_t bytes_of_others;
    uint64_t uploads[HM_CONTENT_MEMBERS_MAX]; // at most so much is new
} content_batch;

struct hm_content {
    hm_content_config cfg; // dir: owned
    MDB_env *env;
    // Tables: hash -> bytes; root -> manifest; hash or root -> nothing, if an asset refers to it;
    // hash or root -> upload; root -> when it was first wanted, and its commitment; meta.
    MDB_dbi chunks, manifests, kept, uploads, wanted, meta;
    MDB_txn *read; // reset between reads
    content_batch queue, running;
    bool is_running;
    content_done done; // of the running sync: the thread's that runs it, until it ends
    hm_content_stats stats;
    uint64_t upload_bytes[HM_CONTENT_MEMBERS_MAX];
    uint64_t followed, oldest_ms;
};

// A record of the table of uploads.
typedef struct content_upload {
    uint64_t time_ms;
    uint32_t member;
    uint32_t cost;
    bool manifest;
} content_upload;
#define CONTENT_UPLOAD_BYTES 17u
bool content_upload_read(const MDB_val *v, content_upload *u);

hm_err content_fail(int rc, const char *what);
static inline uint32_t content_cost(size_t len)
{
    return len < HM_CONTENT_ENTRY_MIN ? HM_CONTENT_ENTRY_MIN : (uint32_t)len;
}
static inline MDB_val content_key(const hm_hash *h)
{
    return (MDB_val){HM_HASH_BYTES, (void *)h->b};
}

// content_write.c: all jobs of a batch in a transaction.
void content_write(hm_content *c, const content_batch *b, content_done *done);

#endif
