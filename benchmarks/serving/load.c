/* A load generator for HTTP/1.1 on loopback: one thread, one epoll, keep-alive connections.
 *
 *   load PORT SECONDS closed CONNECTIONS HEALTH REQUEST...
 *   load PORT SECONDS open   RATE        HEALTH REQUEST...
 *
 * REQUEST: files that each hold one whole request (head and body), sent in turn. HEALTH: a file with the request that is
 * sent every 25 ms on a connection of its own, or "-".
 *
 * closed: each connection asks again as soon as it is answered; latency counts from sending.
 * open: requests are due at the times of a Poisson process, whatever the server does, on as many connections as it takes
 * (at most MOST, beyond which they wait here). Latency counts from the time a request was due, so a server that stalls
 * cannot hide what it made others wait. After SECONDS nothing more is sent, and answers are awaited for GRACE seconds.
 *
 * LOAD_TRACE, in the environment: a file for a pair of doubles of each answer 200: when it was due (CLOCK_MONOTONIC,
 * seconds) and how long it took (seconds).
 *
 * LOAD_REPEAT, in the environment: seconds of a phase, counted by CLOCK_MONOTONIC. In an open loop the phases 2n and
 * 2n + 1 get the same requests at the same times, so that chance makes no difference between them.
 *
 * Prints one JSON object. Times are milliseconds. `goodput`: answers 200 within SECONDS, per second. `late`: how long
 * after it was due a request was sent although a connection was there for it: the generator's own fault. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1000, BUFFER = 1 << 16, GRACE = 3 };
#define HEALTH_EVERY 0.025

struct request { char *bytes; size_t size; };
struct series { double *values; size_t count, room; };
struct connection {
    int fd, health, connecting, in_flight, chunked, got_head, close_after;
    double due;
    const struct request *request;
    size_t sent, have, wanted;
    int status;
    char head[BUFFER];
};

static struct sockaddr_in address;
static struct request requests[256], health_request;
static int request_count, next_request, epoll_fd, open_loop, connection_count, idle_count, health_on;
static struct connection connections[MOST + 1], *idle[MOST + 1];
static double start, end, rate, repeat, next_due, next_health;
static double *waiting;
static const char *trace_path;
static size_t wait_first, wait_last, wait_room;
static struct series accepted, refused, health, late, trace;
static long statuses[1000], broken, in_time, scheduled, health_bad, opened, in_flight;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add(struct series *s, double value) {
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4096;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        if (!s->values) exit(3);
    }
    s->values[s->count++] = value;
}

#define SEED 88172645463325252ULL
static uint64_t random_state = SEED;

static double uniform(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return ((double)(random_state >> 11) + 1) / 9007199254740993.0;
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, operation, c->fd, &e);
}

static void dial(struct connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->connecting = connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0;
    opened++;
    watch(c, EPOLL_CTL_ADD, EPOLLIN | (c->connecting ? EPOLLOUT : 0));
}

static void flush(struct connection *c) {
    if (c->connecting) return;
    while (c->sent < c->request->size) {
        ssize_t n = send(c->fd, c->request->bytes + c->sent, c->request->size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        c->sent += (size_t)n;
    }
}

static void ask(struct connection *c, double due, int on_time) {
    c->due = due;
    c->in_flight = 1;
    c->sent = c->have = c->wanted = 0;
    c->got_head = c->chunked = c->close_after = 0;
    c->request = c->health ? &health_request : &requests[next_request++ % request_count];
    if (!c->health) in_flight++;
    if (!c->health && on_time) add(&late, now() - due);
    if (c->fd < 0) dial(c);
    flush(c);
}

static void hang_up(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->connecting = 0;
}

/* A connection is free: give it what waits, or what its loop wants. */
static void release(struct connection *c, double t) {
    if (c->health) return;
    if (!open_loop) {
        if (t < end) ask(c, t, 1);
    } else if (wait_first < wait_last && t < end) {
        ask(c, waiting[wait_first++], 0);
    } else {
        idle[idle_count++] = c;
    }
}

static void finish(struct connection *c, int ok) {
    double t = now(), took = t - c->due;
    c->in_flight = 0;
    if (!ok || c->close_after) hang_up(c);
    if (c->health) {
        add(&health, took);
        if (!ok || c->status != 200) health_bad++;
        return;
    }
    in_flight--;
    if (!ok) {
        broken++;
    } else {
        statuses[c->status % 1000]++;
        add(c->status == 200 ? &accepted : &refused, took);
        if (c->status == 200 && t <= end) in_time++;
        if (c->status == 200 && trace_path) add(&trace, c->due), add(&trace, took);
    }
    release(c, t);
}

static int field(const struct connection *c, size_t size, const char *name, char *value, size_t room) {
    size_t length = strlen(name);
    for (const char *line = c->head; (line = memchr(line, '\n', size - (size_t)(line - c->head))); ) {
        line++;
        if ((size_t)(line - c->head) + length + 1 > size) return 0;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            size_t n = 0;
            for (line += length + 1; *line == ' '; line++);
            while (n + 1 < room && line[n] != '\r' && line[n] != '\n') value[n] = line[n], n++;
            value[n] = 0;
            return 1;
        }
    }
    return 0;
}

/* What has arrived: `have` bytes of head and body; of a body beyond the buffer only the count matters. */
static void parse(struct connection *c) {
    char value[64];
    if (!c->got_head) {
        char *found = memmem(c->head, c->have, "\r\n\r\n", 4);
        if (!found) return;
        size_t size = (size_t)(found - c->head) + 4;
        c->status = c->have > 12 ? atoi(c->head + 9) : 0;
        c->got_head = 1;
        if (field(c, size, "content-length", value, sizeof value)) c->wanted = size + strtoul(value, 0, 10);
        else c->chunked = 1;
        if (field(c, size, "connection", value, sizeof value) && strcasecmp(value, "close") == 0) c->close_after = 1;
    }
    if (c->chunked ? c->have >= 5 && memcmp(c->head + c->have - 5, "0\r\n\r\n", 5) == 0 : c->have >= c->wanted)
        finish(c, 1);
}

static void on_readable(struct connection *c) {
    for (;;) {
        char spill[BUFFER];
        int keep = c->have < BUFFER && !(c->got_head && !c->chunked);
        ssize_t n = keep ? recv(c->fd, c->head + c->have, BUFFER - c->have, 0) : recv(c->fd, spill, sizeof spill, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0) {
            if (c->in_flight) finish(c, 0);
            else hang_up(c);
            return;
        }
        c->have += (size_t)n;
        parse(c);
        if (!c->in_flight || c->have == 0) return;
    }
}

static void on_event(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (c->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            finish(c, 0);
            return;
        }
        c->connecting = 0;
    }
    if (events & EPOLLOUT && c->in_flight) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        flush(c);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
}

static void draw_next_due(void) {
    double phase = repeat ? floor(next_due / repeat) : 0;
    next_due -= log(uniform()) / rate;
    if (!repeat || floor(next_due / repeat) <= phase) return;
    next_request = 0;
    random_state = SEED ^ ((uint64_t)((phase + 1) / 2) * 0x9e3779b97f4a7c15ULL);
    next_due = (phase + 1) * repeat - log(uniform()) / rate;
}

static void schedule(double t) {
    for (; open_loop && next_due <= t && next_due < end; draw_next_due()) {
        scheduled++;
        if (idle_count) {
            ask(idle[--idle_count], next_due, 1);
        } else if (connection_count < MOST) {
            struct connection *c = &connections[connection_count++];
            c->fd = -1;
            ask(c, next_due, 1);
        } else {
            if (wait_last == wait_room) {
                wait_room = wait_room ? 2 * wait_room : 4096;
                waiting = realloc(waiting, wait_room * sizeof *waiting);
                if (!waiting) exit(3);
            }
            waiting[wait_last++] = next_due;
        }
    }
    struct connection *h = &connections[MOST];
    if (health_on && !h->in_flight && next_health <= t && next_health < end) {
        ask(h, next_health, 1);
        next_health += HEALTH_EVERY;
    }
}

static struct request read_request(const char *path) {
    struct request r = {malloc(1 << 22), 0};
    FILE *file = fopen(path, "rb");
    if (!file || !r.bytes) exit(2);
    r.size = fread(r.bytes, 1, 1 << 22, file);
    fclose(file);
    return r;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, struct series *s) {
    qsort(s->values, s->count, sizeof *s->values, by_value);
    printf(", \"%s\": {\"count\": %zu", name, s->count);
    const struct { const char *name; double share; } points[] = {
        {"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    for (size_t i = 0; s->count && i < sizeof points / sizeof *points; i++) {
        size_t at = (size_t)ceil(points[i].share * (double)s->count);
        printf(", \"%s\": %.3f", points[i].name, 1e3 * s->values[at ? at - 1 : 0]);
    }
    printf("}");
}

int main(int count, char **arguments) {
    if (count < 7) return 2;
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double seconds = atof(arguments[2]);
    open_loop = strcmp(arguments[3], "open") == 0;
    rate = atof(arguments[4]);
    health_on = strcmp(arguments[5], "-") != 0;
    if (health_on) health_request = read_request(arguments[5]);
    for (int i = 6; i < count && request_count < 256; i++) requests[request_count++] = read_request(arguments[i]);
    epoll_fd = epoll_create1(0);
    trace_path = getenv("LOAD_TRACE");
    repeat = getenv("LOAD_REPEAT") ? atof(getenv("LOAD_REPEAT")) : 0;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    struct connection *h = &connections[MOST];
    h->fd = -1;
    h->health = 1;
    start = now();
    end = start + seconds;
    next_due = start - log(uniform()) / rate;
    next_health = start;
    for (int i = 0; !open_loop && i < (int)rate && i < MOST; i++) {
        connections[i].fd = -1;
        connection_count++;
        ask(&connections[i], now(), 1);
    }
    struct epoll_event events[256];
    double t = start;
    while (t < end || ((in_flight || h->in_flight) && t < end + GRACE)) {
        schedule(t);
        double next = open_loop ? next_due : end;
        if (health_on && !h->in_flight && next_health < next) next = next_health;
        /* Sleeps rather than spins: on a core that shares its parts with the server's, spinning slows the server. */
        double pause = t >= end ? 0.01 : next - now();
        if (pause < 0) pause = 0;
        if (pause > 0.1) pause = 0.1;
        struct timespec timeout = {0, (long)(1e9 * pause)};
        int n = epoll_pwait2(epoll_fd, events, 256, &timeout, 0);
        for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
        t = now();
    }
    if (trace_path) {
        FILE *file = fopen(trace_path, "wb");
        if (!file || fwrite(trace.values, sizeof *trace.values, trace.count, file) != trace.count || fclose(file)) exit(2);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    printf("{\"seconds\": %.3f, \"scheduled\": %ld, \"goodput\": %.2f", seconds, open_loop ? scheduled : (long)accepted.count,
           (double)in_time / seconds);
    printf(", \"unanswered\": %ld, \"broken\": %ld, \"connections\": %d, \"opened\": %ld, \"health_bad\": %ld",
           in_flight + (long)(wait_last - wait_first), broken, connection_count, opened, health_bad);
    printf(", \"cpu_seconds\": %.2f, \"client_cpu\": %.2f, \"statuses\": {", cpu, cpu / (t - start));
    const char *comma = "";
    for (int i = 0; i < 1000; i++)
        if (statuses[i]) printf("%s\"%d\": %ld", comma, i, statuses[i]), comma = ", ";
    printf("}");
    print("accepted", &accepted);
    print("refused", &refused);
    print("health", &health);
    print("late", &late);
    printf("}\n");
    return 0;
}
