#include "stoq/ecn.h"

#include <string.h>

uint8_t stoq_ecn_mark(const stoq_ecn *e, bool again)
{
    bool marked = e->state == STOQ_ECN_CAPABLE || (e->state == STOQ_ECN_TESTING && !again);
    return marked ? STOQ_ECN_ECT0 : 0;
}

static bool is_valid(const stoq_ecn_space *s, const uint64_t counts[3], uint64_t newly_acked)
{
    for (int i = 0; i < 3; i++)
        if (counts[i] < s->told[i])
            return false;
    // Marks that were wiped out or changed on the way, or that the peer made up.
    uint64_t more = counts[0] - s->told[0] + counts[2] - s->told[2];
    return more >= newly_acked && counts[0] <= s->marked && counts[2] <= s->marked &&
           counts[1] == 0;
}

uint64_t stoq_ecn_on_ack(stoq_ecn *e, stoq_ecn_space *s, const uint64_t counts[3],
                         uint64_t newly_acked)
{
    if (e->state == STOQ_ECN_FAILED)
        return 0;
    if (counts == NULL ? newly_acked > 0 : !is_valid(s, counts, newly_acked)) {
        e->state = STOQ_ECN_FAILED;
        return 0;
    }
    if (counts == NULL)
        return 0;
    uint64_t ce = counts[2] - s->told[2];
    memcpy(s->told, counts, sizeof s->told);
    if (newly_acked > 0)
        e->state = STOQ_ECN_CAPABLE;
    return ce;
}
