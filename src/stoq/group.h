// Private: jobs between the workers of a group that cannot fail for want of memory or room: the
// memory of one is its owner's, and it stands in no more than one queue. They leave when the turn
// of the endpoint, or the job, in which they were posted is over, so that what one turn brings is
// told at once.
#ifndef HM_STOQ_GROUP_PRIVATE_H
#define HM_STOQ_GROUP_PRIVATE_H

#include "base/list.h"
#include "hypermesh/stoq_group.h"

typedef struct group_job {
    hm_list link;
    // On the worker's thread; or, with ep NULL, on that of `from`: the worker takes no more jobs.
    void (*run)(void *arg, stoq_endpoint *ep);
    void *arg;
    unsigned to; // group.c's, as the next
    bool heap;
} group_job;

// On the thread of worker `from`, for another one. The job is the group's until it is run.
void group_post(stoq_group *g, unsigned from, unsigned to, group_job *job);

#endif
