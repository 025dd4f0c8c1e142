// What storing a put's window of chunks costs the thread that the node's loop runs on, and what it
// costs the one that waits for the disk. Prints one JSON line a figure. Argument: a directory on
// the disk to measure.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/content.h"
#include "server/json.h"

#define ROUNDS 40u
#define CHUNKS 32u
#define CHUNK_BYTES (256u << 10)

static void must(hm_err err, const char *what)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "content: %s: %s: %s\n", what, hm_err_text(err), hm_err_detail());
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, uint64_t *us)
{
    hm_buf b = {0};
    qsort(us, ROUNDS, sizeof *us, by_value);
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "content");
    hm_jw_str(&b, "what", what);
    hm_jw_u64(&b, "bytes", CHUNKS * CHUNK_BYTES);
    hm_jw_u64(&b, "runs", ROUNDS);
    hm_jw_u64(&b, "median_us", us[ROUNDS / 2]);
    hm_jw_u64(&b, "max_us", us[ROUNDS - 1]);
    hm_jw_close(&b, '}');
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    hm_buf_free(&b);
}

int main(int argc, char **argv)
{
    static uint8_t chunk[CHUNK_BYTES];
    uint64_t put_us[ROUNDS], disk_us[ROUNDS];
    char dir[4100];
    hm_content *c = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: content DIR\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "%s/bench-content", argv[1]);
    must(hm_content_open(&(hm_content_config){.dir = dir}, &c), "open");
    hm_random_fill(&hm_random_system, chunk, sizeof chunk);
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t start = hm_clock_mono_us(&hm_clock_system);
        for (unsigned i = 0; i < CHUNKS; i++) {
            hm_random_fill(&hm_random_system, chunk, 16);
            hm_hash h = hm_sha256(hm_bytes_of(chunk, sizeof chunk));
            must(hm_content_put(c, &h, hm_bytes_of(chunk, sizeof chunk), 0, 1), "put");
        }
        hm_content_sync_begin(c);
        uint64_t middle = hm_clock_mono_us(&hm_clock_system);
        hm_content_sync_run(c);
        uint64_t end = hm_clock_mono_us(&hm_clock_system);
        must(hm_content_sync_end(c), "sync");
        put_us[r] = middle - start;
        disk_us[r] = end - middle;
    }
    hm_content_close(c);
    tell("loop", put_us);
    tell("disk", disk_us);
    return 0;
}
