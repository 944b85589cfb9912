/* Sends UDP packets to many addresses, some of them far more often than others, and says how many each one got.
 *
 *     spray ADDRESS ADDRESSES EXPONENT PAYLOAD_BYTES SECONDS PACKETS PER_SECOND FRESH_PERCENT COUNTS
 *     → packets seconds cpu_seconds
 *
 * The address of number n is ADDRESS + n; number n is chosen with a probability of 1 ÷ (n + 1) to the power of
 * EXPONENT: 0 for all alike, 1 for what traffic of many clients looks like (Zipf). FRESH_PERCENT of the packets go to
 * addresses behind these instead, each to another one, as a scan does. It ends after SECONDS or after PACKETS,
 * whichever is first; PER_SECOND 0 is as fast as it goes. COUNTS is a file that becomes the packets of each number,
 * 32 bits each in the machine's order, without the fresh ones; "-" for none.
 *
 * One socket that is not connected, one packet per call, one thread. A packet that the kernel refuses for want of a
 * buffer is not counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD_MAX = 1472, CLOCK_EVERY = 64, SEQUENCE = 1 << 20, ADDRESSES_MAX = 1 << 24 };

static uint64_t state = 88172645463325252ull;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double chance(void) { /* xorshift64: the same traffic in every run */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state >> 11) * 0x1.0p-53;
}

/* Numbers as often as they should be sent to, drawn before the clock runs. */
static uint32_t *sequence(uint32_t addresses, double exponent) {
    double *below = malloc(sizeof *below * addresses), sum = 0;
    uint32_t *drawn = malloc(sizeof *drawn * SEQUENCE);
    if (!below || !drawn)
        exit(1);
    for (uint32_t n = 0; n < addresses; n++)
        below[n] = sum += pow(n + 1, -exponent);
    for (int i = 0; i < SEQUENCE; i++) {
        double at = chance() * sum;
        uint32_t low = 0, high = addresses - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (below[middle] > at)
                high = middle;
            else
                low = middle + 1;
        }
        drawn[i] = low;
    }
    free(below);
    return drawn;
}

int main(int argc, char **argv) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    int is_four = argc == 10 && inet_pton(AF_INET, argv[1], &four.sin_addr) == 1;
    if (argc != 10 || (!is_four && inet_pton(AF_INET6, argv[1], &six.sin6_addr) != 1)) {
        fprintf(stderr, "usage: spray ADDRESS ADDRESSES EXPONENT PAYLOAD_BYTES SECONDS PACKETS PER_SECOND"
                        " FRESH_PERCENT COUNTS\n");
        return 2;
    }
    uint32_t addresses = strtoul(argv[2], NULL, 10), fresh_percent = strtoul(argv[8], NULL, 10);
    size_t payload_bytes = strtoul(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL), per_second = strtod(argv[7], NULL);
    unsigned long long most = strtoull(argv[6], NULL, 10), packets = 0;
    if (!addresses || addresses > ADDRESSES_MAX || payload_bytes > PAYLOAD_MAX || seconds <= 0 || fresh_percent > 100) {
        fprintf(stderr, "spray: 1 to %d addresses, at most %d bytes, more than 0 seconds, at most 100 %%\n",
                ADDRESSES_MAX, PAYLOAD_MAX);
        return 2;
    }
    uint32_t *numbers = sequence(addresses, strtod(argv[3], NULL)), *counts = calloc(addresses, sizeof *counts);
    uint32_t base = ntohl(is_four ? four.sin_addr.s_addr : six.sin6_addr.s6_addr32[3]), fresh = base + addresses;
    struct sockaddr *to = is_four ? (struct sockaddr *)&four : (struct sockaddr *)&six;
    socklen_t length = is_four ? sizeof four : sizeof six;
    int fd = socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 8 << 20;
    if (fd < 0 || !counts || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room)) {
        perror("spray");
        return 1;
    }
    static char payload[PAYLOAD_MAX];
    double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_PROCESS_CPUTIME_ID), end;
    uint32_t position = 0, turn = 0;
    do {
        for (int calls = 0; calls < CLOCK_EVERY && packets < most; calls++) {
            turn += fresh_percent;
            int is_fresh = turn >= 100;
            turn -= is_fresh ? 100 : 0;
            uint32_t number = numbers[position];
            uint32_t address = htonl(is_fresh ? fresh++ : base + number);
            if (is_four)
                four.sin_addr.s_addr = address;
            else
                six.sin6_addr.s6_addr32[3] = address;
            if (sendto(fd, payload, payload_bytes, 0, to, length) >= 0) {
                packets++;
                if (!is_fresh) {
                    counts[number]++;
                    position = (position + 1) % SEQUENCE;
                }
            } else if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED && errno != EHOSTUNREACH &&
                       errno != ENETUNREACH) {
                perror("spray");
                return 1;
            }
        }
        end = now(CLOCK_MONOTONIC);
        double early = per_second > 0 ? start + packets / per_second - end : 0;
        if (early > 0.0005)
            usleep(early * 1e6);
    } while (packets < most && end - start < seconds);
    printf("%llu %.6f %.6f\n", packets, end - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu_start);
    if (strcmp(argv[9], "-")) {
        FILE *file = fopen(argv[9], "wb");
        if (!file || fwrite(counts, sizeof *counts, addresses, file) != addresses || fclose(file)) {
            perror(argv[9]);
            return 1;
        }
    }
    return 0;
}
