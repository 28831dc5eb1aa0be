// A forked process that can say a letter to its parent, and be killed. POSIX.
#pragma once

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

class Child {
  public:
    static constexpr int closed = -1;

    class Said {
      public:
        explicit Said(int fd) : fd_(fd) {}
        void say(char letter) const {
            if (write(fd_, &letter, 1) != 1) {
                _exit(1);
            }
        }
        /// Then the parent hears `closed` when another program runs.
        void close_on_exec() const { fcntl(fd_, F_SETFD, FD_CLOEXEC); }

      private:
        int fd_;
    };

    /// Runs `work` in a process of its own, which ends with it.
    template <typename Work>
    explicit Child(Work && work) {
        int ends[2];
        if (pipe(ends) != 0 || (process_ = fork()) < 0) {
            std::abort();
        }
        if (process_ == 0) {
            close(ends[0]);
            Said said(ends[1]);
            work(said);
            _exit(0);
        }
        close(ends[1]);
        pipe_ = ends[0];
    }
    ~Child() {
        kill();
        close(pipe_);
    }
    Child(Child && other) noexcept : process_(std::exchange(other.process_, 0)), pipe_(std::exchange(other.pipe_, -1)) {}
    Child & operator=(Child && other) noexcept {
        std::swap(process_, other.process_);
        std::swap(pipe_, other.pipe_);
        return *this;
    }

    /// The next letter, or `closed`; waits.
    int hear() const {
        char letter;
        return read(pipe_, &letter, 1) == 1 ? letter : closed;
    }
    void kill() {
        if (process_ > 0) {
            ::kill(process_, SIGKILL);
            waitpid(std::exchange(process_, 0), nullptr, 0);
        }
    }
    /// Its exit status, -1 if it was killed.
    int wait() {
        int status = 0;
        waitpid(std::exchange(process_, 0), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

  private:
    pid_t process_ = 0;
    int pipe_ = -1;
};
