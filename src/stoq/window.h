// How far a peer may send ahead of what the application has read (RFC 9000, section 4): the receive
// window of a stream or a connection. It begins small and doubles, up to its limit, whenever the
// application has read half of it in less than two round trips, for then the window may be what
// holds the peer up. (The rule is that of Chromium's QUIC and of quiche.) So a path is filled
// whatever its round trip is, and who reads slowly has little kept for it. It never shrinks: what
// was promised stays so.
#ifndef HM_STOQ_WINDOW_H
#define HM_STOQ_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define STOQ_STREAM_WINDOW (1u << 18) // that a stream begins with
#define STOQ_CONN_WINDOW (1u << 19)   // and a connection
// The peer hears of more with every half of the window that was read; with every quarter while the
// window may still grow, for two doublings in a round trip keep it ahead of a slow start, which one
// does not; and at least with every so many bytes, so that a long window is almost all there for
// the path.
#define STOQ_WINDOW_STEP (1u << 21)

typedef struct stoq_window {
    uint64_t max;         // offset that the peer may send up to
    uint64_t due;         // what is read beyond here moves it
    uint32_t size, limit; // bytes; the size beyond what was read when max was set last
    uint64_t opened_us;   // when that was
} stoq_window;

void stoq_window_init(stoq_window *w, uint32_t begin, uint32_t limit, uint64_t now_us);
// All before `read` was read; rtt_us 0: not known. True: max is greater than before, and the peer
// is to hear of it.
bool stoq_window_move(stoq_window *w, uint64_t read, uint64_t now_us, uint64_t rtt_us);
static inline bool stoq_window_open(stoq_window *w, uint64_t read, uint64_t now_us, uint64_t rtt_us)
{
    return read > w->due && stoq_window_move(w, read, now_us, rtt_us);
}

#endif
