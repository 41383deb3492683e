// Memory, and threads that live for one call: nothing is left behind that a forked
// process could trip over. Only for code of no special instruction set.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace {

class Memory {
 public:
  explicit Memory(int64_t bytes)
      : data_(::operator new((size_t)std::max<int64_t>(bytes, 64), align)) {}
  ~Memory() { ::operator delete(data_, align); }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  void *get() const { return data_; }

 private:
  static constexpr std::align_val_t align{64};
  void *data_;
};

// Threads look for each other for some microseconds before they sleep: to be woken takes
// longer.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    if (count_ == 1) return;
    const int64_t round = round_;
    if (++waiting_ == count_) {
      waiting_ = 0;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++round_;
      }
      changed_.notify_all();
      return;
    }
    for (int look = 0; look < LOOKS; look++) {
      if (round_ != round) return;
      if (look % 64 == 63)
        std::this_thread::yield();
      else
        pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return round_ != round; });
  }

 private:
  static constexpr int LOOKS = 2000;
  std::mutex mutex_;
  std::condition_variable changed_;
  const int count_;
  std::atomic<int> waiting_{0};
  std::atomic<int64_t> round_{0};

  static void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
};

// Call work(0), ..., work(count - 1), each in a thread of its own. Nobody begins before
// all have been started: where the system gives fewer threads, none works.
template <class Work> void in_threads(int count, const Work &work) {
  std::atomic<int> state{0};
  std::vector<std::thread> threads;
  const auto finish = [&](int value) {
    state = value;
    if (value > 0) work(0);
    for (auto &thread : threads) thread.join();
  };
  try {
    threads.reserve((size_t)count);
    for (int t = 1; t < count; t++)
      threads.emplace_back([&state, &work, t] {
        while (state == 0) std::this_thread::yield();
        if (state > 0) work(t);
      });
  } catch (...) {
    finish(-1);
    throw;
  }
  finish(1);
}

}  // namespace
