// The emulated device's memory, and the report when a kernel accesses memory outside it.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

const size_t PAGE = 4096, ALIGNMENT = 16;
const size_t BIG = size_t(1) << 30;    // larger blocks get pages when touched, and are not filled
const size_t ARENA = size_t(1) << 44;  // addresses, none of which is used twice

struct Block {  // [page | unused, start ... start + bytes, unused | a page without access]
    char *pages, *start, *end;  // end: the end of its last page
    size_t bytes;
    bool freed;
};
static std::map<char*, Block> blocks;  // those in the arena, by their first page
static char *arena, *free_page;

extern "C" char current_kernel[256];  // for the report
char current_kernel[256];
static int standard_error = 2;

static void say(const char* what, const Block* block, const char* at)
{
    char line[500], where[150] = "";
    if (block && at >= block->start + block->bytes)
        snprintf(where, sizeof where, ", %zd bytes past the end of", at - block->start - block->bytes);
    else if (block && at < block->start)
        snprintf(where, sizeof where, ", %zd bytes before the start of", block->start - at);
    else if (block)
        snprintf(where, sizeof where, ", in byte %zd of", at - block->start);
    const char* of = block ? block->freed ? " freed memory of" : " memory of" : "";
    char size[40] = "";
    if (block) snprintf(size, sizeof size, " %zu bytes", block->bytes);
    const int n = snprintf(
        line, sizeof line, "emulator: kernel %s: %s%s%s%s\n",
        *current_kernel ? current_kernel : "(none)", what, where, of, size);
    if (write(standard_error, line, n) < 0) abort();
}

static const Block* nearest(char* at)
{
    auto after = blocks.upper_bound(at);
    if (after == blocks.begin()) return &after->second;
    const Block* before = &std::prev(after)->second;
    const bool closer = after == blocks.end() || at - before->end < after->second.pages - at;
    return closer ? before : &after->second;
}

static void on_fault(int number, siginfo_t* info, void*)
{
    // If Python's faulthandler ran first, it raised this signal again; the real one follows.
    if (info->si_code <= 0) return;
    char* at = (char*)info->si_addr;
    const bool ours = !blocks.empty() && at >= arena && at < arena + ARENA;
    const char* what = number == SIGSEGV || number == SIGBUS ? "no access to this address"
                       : number == SIGFPE                    ? "integer division by zero"
                                                             : "array index or integer overflow";
    say(what, ours ? nearest(at) : nullptr, at);
    signal(number, SIG_DFL);  // then the instruction faults again
}

extern "C" void report_faults()
{
    standard_error = dup(2);  // pytest will replace it by a file
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(number, &action, nullptr);
}

// Returns null if there is no room.
extern "C" void* allocate(size_t bytes, int poison, int guard)
{
    if (!guard && bytes <= BIG) {
        void* start = aligned_alloc(512, (bytes + 511) / 512 * 512);
        if (start && poison) memset(start, 0xFF, bytes);
        return start;
    }
    if (!arena) {
        void* map = mmap(
            nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) return nullptr;
        arena = (char*)map;
        free_page = arena + PAGE;
    }
    const size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t whole = (room + PAGE - 1) / PAGE * PAGE;
    if (bytes > ARENA || whole + PAGE > size_t(arena + ARENA - free_page)) return nullptr;
    char* pages = free_page;
    if (mprotect(pages, whole, PROT_READ | PROT_WRITE)) return nullptr;
    free_page += whole + PAGE;
    const Block block = {pages, pages + whole - room, pages + whole, bytes, false};
    blocks[pages] = block;
    memset(block.start + bytes, 0xFF, room - bytes);  // release() checks whether these have changed
    if (bytes <= BIG) {
        memset(pages, 0xFF, block.start - pages);
        if (poison) memset(block.start, 0xFF, bytes);
    }
    return block.start;
}

extern "C" void release(char* start)
{
    if (!arena || start < arena || start >= arena + ARENA) return free(start);
    Block& block = std::prev(blocks.upper_bound(start))->second;
    for (char* at = block.pages; block.bytes <= BIG && at < block.end; at++) {
        if (at == block.start) at += block.bytes;
        if (at < block.end && *at != char(0xFF)) {
            strcpy(current_kernel, "(unknown)");
            say("has written outside of an array", &block, at);
            abort();
        }
    }
    block.freed = true;
    madvise(block.pages, block.end - block.pages, MADV_DONTNEED);
    mprotect(block.pages, block.end - block.pages, PROT_NONE);
}
