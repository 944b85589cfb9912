/* Sends small UDP packets as fast as it can and prints how fast that was.
 *
 *     sender ADDRESS PORT PAYLOAD_BYTES SECONDS [BATCH [SOURCE_PORT]]
 *     → packets seconds cpu_seconds
 *
 * One connected socket, one packet per call (BATCH packets per sendmmsg when given), one thread: what it prints is what
 * one core can hand to the device through routing, netfilter and the qdisc. `cpu_seconds` is what this process really
 * ran, for machines on which others run too. A packet that the kernel refuses for want of a buffer is not counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_MAX = 64, PAYLOAD_MAX = 1472, CLOCK_EVERY = 256 };

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int connected(const char *address, const char *port, int source_port) {
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *to;
    int failure = getaddrinfo(address, port, &hints, &to);
    if (failure) {
        fprintf(stderr, "sender: %s port %s: %s\n", address, port, gai_strerror(failure));
        exit(2);
    }
    int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* Of either family: what stands before the port in the address is 0. */
    struct sockaddr_in6 from = {.sin6_family = to->ai_family, .sin6_port = htons(source_port)};
    if (fd < 0 || (source_port && bind(fd, (struct sockaddr *)&from, to->ai_addrlen)) || connect(fd, to->ai_addr, to->ai_addrlen)) {
        perror("sender");
        exit(1);
    }
    freeaddrinfo(to);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 7) {
        fprintf(stderr, "usage: sender ADDRESS PORT PAYLOAD_BYTES SECONDS [BATCH [SOURCE_PORT]]\n");
        return 2;
    }
    size_t payload_bytes = strtoul(argv[3], NULL, 10);
    double seconds = strtod(argv[4], NULL);
    int batch = argc > 5 ? atoi(argv[5]) : 1;
    if (payload_bytes > PAYLOAD_MAX || seconds <= 0 || batch < 1 || batch > BATCH_MAX) {
        fprintf(stderr, "sender: at most %d bytes, more than 0 seconds, a batch of 1 to %d\n", PAYLOAD_MAX, BATCH_MAX);
        return 2;
    }
    static char payload[PAYLOAD_MAX];
    struct iovec bytes = {payload, payload_bytes};
    struct mmsghdr messages[BATCH_MAX];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < batch; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &bytes, .msg_iovlen = 1};

    int fd = connected(argv[1], argv[2], argc > 6 ? atoi(argv[6]) : 0);
    unsigned long long packets = 0;
    double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_PROCESS_CPUTIME_ID), end;
    do {
        for (int calls = 0; calls < CLOCK_EVERY; calls += batch) {
            ssize_t sent = batch == 1 ? (send(fd, payload, payload_bytes, 0) < 0 ? -1 : 1)
                                      : sendmmsg(fd, messages, batch, 0);
            if (sent > 0)
                packets += sent;
            else if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED) {
                perror("sender");
                return 1;
            }
        }
        end = now(CLOCK_MONOTONIC);
    } while (end - start < seconds);
    printf("%llu %.6f %.6f\n", packets, end - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu_start);
    return 0;
}
