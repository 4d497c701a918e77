/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/pipe.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void pipe_free(struct pipepool *p, struct pipe *pipe)
{
	close(pipe->r);
	close(pipe->w);
	free(pipe);
	p->n--;
}

void pipepool_init(struct pipepool *p, unsigned max)
{
	*p = (struct pipepool){.max = max};
}

static unsigned count_free(const struct pipepool *p)
{
	return p->n - p->lent;
}

static struct pipe *take_free(struct pipepool *p)
{
	struct pipe *pipe = p->free;

	if (!pipe)
		return NULL;
	p->free = pipe->next;
	if (count_free(p) - 1 < p->spare)
		p->spare = count_free(p) - 1;
	return pipe;
}

void pipepool_fini(struct pipepool *p)
{
	struct pipe *pipe;

	assert(p->lent == 0);
	while ((pipe = take_free(p)))
		pipe_free(p, pipe);
}

void pipepool_trim(struct pipepool *p)
{
	unsigned spare = p->spare;
	struct pipe *pipe;

	while (spare-- > 0 && (pipe = take_free(p)))
		pipe_free(p, pipe);
	p->spare = count_free(p);
}

struct pipe *pipe_take_narrow(struct pipepool *p)
{
	struct pipe *pipe;
	int fd[2];

	if (p->n >= p->max && (pipe = take_free(p)))
		pipe_free(p, pipe);
	if (p->n >= p->max)
		return NULL;
	pipe = calloc(1, sizeof(*pipe));
	if (!pipe)
		return NULL;
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(pipe);
		return NULL;
	}
	pipe->r = fd[0];
	pipe->w = fd[1];
	p->n++;
	p->lent++;
	return pipe;
}

void pipe_widen(struct pipepool *p, struct pipe *pipe)
{
	if (!p->free)
		pipe->wide = fcntl(pipe->w, F_SETPIPE_SZ, (int)PIPE_BYTES) >= 0;
}

struct pipe *pipe_take(struct pipepool *p)
{
	struct pipe *pipe = take_free(p);

	if (pipe) {
		p->lent++;
		return pipe;
	}
	pipe = pipe_take_narrow(p);
	if (!pipe)
		return NULL;
	pipe_widen(p, pipe);
	if (pipe->wide)
		return pipe;
	pipe_give(p, pipe);
	return NULL;
}

void pipe_give(struct pipepool *p, struct pipe *pipe)
{
	p->lent--;
	if (pipe->len > 0 || !pipe->wide || p->n > p->max) {
		pipe_free(p, pipe);
		return;
	}
	pipe->next = p->free;
	p->free = pipe;
}
