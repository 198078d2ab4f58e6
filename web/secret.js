import { say } from './i18n.js'

/**
 * Lets a button show and hide what is typed into the password field before it. The field is hidden again
 * when its form is sent, so that a browser does not remember it as an ordinary text.
 * @param {HTMLButtonElement} button @param {HTMLInputElement} input
 */
export function reveal(button, input) {
  const show = (/** @type {boolean} */ isShown) => {
    input.type = isShown ? 'text' : 'password'
    // Named as well, so that they follow the language.
    button.dataset['say'] = isShown ? 'hide' : 'show'
    button.dataset['label'] = isShown ? 'hidePassword' : 'showPassword'
    button.textContent = say(isShown ? 'hide' : 'show')
    button.ariaLabel = say(isShown ? 'hidePassword' : 'showPassword')
  }
  button.type = 'button'
  button.addEventListener('click', () => {
    show(input.type === 'password')
    input.focus()
  })
  input.form?.addEventListener('submit', () => show(false))
  input.form?.addEventListener('reset', () => show(false))
  show(false)
}
